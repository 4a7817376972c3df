"""Whether a change made in mid-run (settings, edits of the pairs) is why the loss jumped or the run failed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.store.changes import checkpoint_before
from lab.store.folder import step_of

from .checks import Seen, check, number, percent
from .evidence import FEWEST, Evidence
from .history import MadeChange, value_words
from .thresholds import Thresholds

BEFORE = 12
"""Steps before a change that the loss behind it is compared with."""

LATE = 50
"""Steps for which a jump that has passed is still told."""

DEVIATIONS = 6.0
"""Robust deviations by which a loss has to be above those before the change."""

SMALLEST = 0.05
"""nats; where the loss is nearly 0, a median of it is no measure."""

NOT_BY_A_CHANGE = ("disk", "interrupt", "numbers")
"""Kinds of failure that are not put down to a change as such. Where numbers stopped being finite, the jump before it is."""

OUT_OF_MEMORY = "Out of memory"
"""How the error of a run that failed for want of memory begins; edits can bring in longer pairs, settings need no more."""


@dataclass(frozen=True)
class Jump:
    """What followed a change.

    step: the first step whose loss is far above those before the change, or no number.   before, loss: nats; `loss` is the highest
    of the steps behind the change.   steps: how many steps stand for `before`.   rescaled: the loss is another function now and the
    policy is no worse by its accuracy, so that it did not jump because of the training.   error: why the run failed there.
    """

    change: MadeChange
    step: int
    before: float
    loss: float
    steps: int
    rescaled: bool = False
    error: str = ""


def jump_after_change(e: Evidence, t: Thresholds) -> Jump | None:
    """The latest change that made the loss jump, or the run fail, within `change_reach` steps behind it and not before it."""
    for number_, change in reversed(list(enumerate(e.changes))):
        earlier = e.changes[number_ - 1].after if number_ else e.first_step
        later = e.changes[number_ + 1].after if number_ + 1 < len(e.changes) else e.step
        jump = _jump(e, t, change, earlier, later)
        if jump is not None:
            return jump
    return None


def _jump(e: Evidence, t: Thresholds, change: MadeChange, earlier: int, later: int) -> Jump | None:
    reach = int(t.change_reach)
    # Until the first update with it is made, a learning rate changes nothing; other changes hold from the next step on.
    first = change.after + (1 if change.parameters or change.pairs_version is not None else 2)
    after = e.reader.scalars.read(["loss", "grad_norm"], first=first, last=min(change.after + reach, later))
    start = max(e.first_step, change.after - BEFORE, earlier if change.after - earlier >= FEWEST else e.first_step)
    before = e.reader.scalars.read(["loss", "grad_norm"], first=start + 1, last=change.after)
    losses = before["loss"].dropna().to_numpy()
    failed = _failure(e, change, reach)
    if failed:
        middle = float(np.median(losses)) if len(losses) else math.nan
        return Jump(change, e.step + 1, middle, math.nan, len(losses), error=failed)
    if len(losses) == 0 or not np.isfinite(before.dropna().to_numpy()).all():
        return None
    middle = float(np.median(losses))
    bound = _bound(losses, t)
    values = after["loss"].to_numpy()
    bad = ~np.isfinite(after.to_numpy()).all(axis=1) | (values > bound)
    if not bad.any():
        return None
    at = int(bad.argmax())
    lost = ~np.isfinite(after.to_numpy()[at:]).all(axis=1)
    if not lost.any() and (bad[at:].sum() < 2 and len(bad) > at + 1):
        return None  # a single batch: a spike, and not the change
    step = int(after.index[at])
    highest = math.nan if lost.any() else float(np.max(values[at:]))
    rescaled = change.parameters and not lost.any() and step == change.after + 1 and not _worse(e, change, values[at:])
    if not lost.any() and e.step > change.after + LATE and (rescaled or not _still_above(e, bound)):
        return None
    return Jump(change, step, middle, highest, len(losses), rescaled)


def _bound(losses: np.ndarray, t: Thresholds) -> float:
    """The loss above which a step is far above these; infinite where they are too few to tell."""
    if len(losses) < FEWEST:
        return math.inf
    middle = float(np.median(losses))
    deviation = max(1.4826 * float(np.median(np.abs(losses - middle))), 0.02 * abs(middle))
    rise = t.change_jump * max(abs(middle), SMALLEST)
    return max(middle + max(rise, DEVIATIONS * deviation), float(losses.max()) + rise)


def _worse(e: Evidence, change: MadeChange, losses: np.ndarray) -> bool:
    """Whether the training became worse too: the loss went on rising behind the change, or fewer pairs are told apart."""
    if len(losses) > FEWEST and np.median(losses[1:]) > 1.5 * losses[0]:
        return True
    name = "rewards/accuracies"
    told = e.reader.scalars.read([name], first=change.after - BEFORE + 1, last=change.after + len(losses))[name].dropna()
    before, after = told[told.index <= change.after], told[told.index > change.after]
    if len(before) < FEWEST or len(after) < FEWEST:
        return False
    size = e.setting("batch_size", 1)
    a, b = float(before.mean()), float(after.mean())
    error = math.sqrt(a * (1 - a) / (len(before) * size) + b * (1 - b) / (len(after) * size))
    return a - b > max(0.15, 3 * error)


def _still_above(e: Evidence, bound: float) -> bool:
    loss = e.now("loss")
    return loss is not None and loss.value > bound


def _failure(e: Evidence, change: MadeChange, reach: int) -> str:
    """How the run failed soon after a change that may be the reason, in a sentence; "" where it did not."""
    status = e.reader.status()
    if status.get("state") != "failed" or e.step < e.reader.step or not change.after <= e.step <= change.after + reach:
        return ""
    error = " ".join(str(status.get("error") or "").split())
    states = e.events("state")["detail"]
    kind = str(states.iloc[-1].get("failure") or "") if len(states) else ""
    if kind == "memory" or error.startswith(OUT_OF_MEMORY):
        return f"It ran out of memory in step {e.step + 1:,}." if change.pairs_version is not None else ""
    if not kind or kind in NOT_BY_A_CHANGE:
        return ""
    return f"It ended behind step {e.step:,}: {error.rstrip('.')}."


def undo(e: Evidence, change: MadeChange) -> str:
    """The sentence that says how to be rid of a change."""
    checkpoint = checkpoint_before(e.reader.folder, change.after)
    if checkpoint is not None:
        where = f"it goes back to the checkpoint of step {step_of(checkpoint):,}"
    elif e.first_step:
        where = f"no checkpoint from before it is left, so it begins again where it branched off, at step {e.first_step:,}"
    else:
        where = "no checkpoint from before it is left, so it begins again with step 1"
    resume = f"esume without the change at step {change.after:,} ({where}; train --resume --without-change {change.after})"
    if e.ended:
        return f"R{resume}."
    back = " and ".join(f"set {path} back to {value_words(old)}" for path, (old, _) in change.settings.items())
    return f"{back[0].upper()}{back[1:]}, or stop the run and r{resume}." if back else f"Stop the run and r{resume}."


@check("A change in mid-run that did harm", "change_jump", "change_reach")
def harmful_change(e: Evidence, t: Thresholds) -> Seen:
    """The loss jumps, or the run fails, right after settings were changed or edits of the pairs were taken."""
    if not e.changes:
        return Seen(waits="nothing was changed in this run")
    last = e.changes[-1]
    numbers = {"steps since the last change": float(e.step - last.after)}
    jump = jump_after_change(e, t)
    if jump is None:
        return Seen(numbers)
    change = jump.change
    numbers |= {"change made after step": float(change.after)}
    numbers |= {} if math.isnan(jump.before) else {"loss before the change, median [nats]": jump.before}
    when = f"when step {change.after:,} was done, {change.message}"
    if jump.error:
        message = f"The run failed right after a change: {when}. {jump.error} {undo(e, change)}"
        return Seen(numbers, message, "error", since=change.after, change=change.after)
    if math.isnan(jump.loss):
        return Seen(numbers)  # told by the check of numbers that are not finite
    numbers |= {"loss behind it, highest [nats]": jump.loss, "first step of the jump": float(jump.step)}
    rise = (
        f"It was {number(jump.before)} in the {jump.steps} steps before and up to {number(jump.loss)} from step {jump.step:,} on."
    )
    if jump.rescaled:
        message = (
            f"The loss jumped at a change, and its values before and behind it cannot be compared: {when}. {rise} The loss is "
            f"another function of the same policy since then{_accuracy(e)}; compare accuracy and log-probs instead."
        )
        return Seen(numbers, message, "notice", since=jump.step, change=change.after)
    message = f"The loss jumped right after a change: {when}. {rise} {undo(e, change)}"
    batch = e.reader.pairs.batch(jump.step)
    pairs = () if batch.empty else tuple(batch.sort_values("loss", ascending=False)["pair"])[:3]
    return Seen(numbers, message, "warning", pairs, jump.step, change=change.after)


def _accuracy(e: Evidence) -> str:
    accuracy = e.now("rewards/accuracies")
    return f" (it tells {percent(accuracy.value)} of the latest pairs apart)" if accuracy else ""
