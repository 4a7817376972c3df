"""Check whether a change during the run (settings, edits of pairs) made the loss jump or the run fail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.store.changes import checkpoint_before
from lab.store.folder import step_of

from .checks import CheckResult, check, number, percent
from .evidence import FEWEST, Evidence
from .history import MadeChange, format_value
from .thresholds import Thresholds

BEFORE = 12
"""Number of steps before a change that the loss after it is compared with."""

LATE = 50
"""Number of steps for which a jump that is over is still reported."""

DEVIATIONS = 6.0
"""Number of robust standard deviations by which a loss must exceed those before the change."""

SMALLEST = 0.05
"""Smallest median of the loss (nats) that a jump is compared with; one near 0 would make everything a jump."""

NOT_BY_A_CHANGE = ("disk", "interrupt", "numbers")
"""Kinds of failure that no change causes directly. If numbers stopped being finite, the jump before that counts."""

OUT_OF_MEMORY = "Out of memory"
"""Start of the error of a run that ran out of memory. Edits can cause it with longer pairs, settings cannot."""


@dataclass(frozen=True)
class Jump:
    """A jump of the loss, or a failure, after a change.

    Attributes:
        change: The change.
        step: First step whose loss is far above those before the change, or not finite.
        before: Median loss before the change, in nats.
        loss: Highest loss after the change, in nats; NaN if one is not finite.
        steps: Number of steps behind `before`.
        rescaled: The loss is a different function since the change, and the policy is no worse by its accuracy.
        error: Why the run failed, or "".
    """

    change: MadeChange
    step: int
    before: float
    loss: float
    steps: int
    rescaled: bool = False
    error: str = ""


def jump_after_change(e: Evidence, t: Thresholds) -> Jump | None:
    """Return the jump of the latest change that made the loss jump, or the run fail, within `change_reach` steps; or None."""
    for number_, change in reversed(list(enumerate(e.changes))):
        earlier = e.changes[number_ - 1].after if number_ else e.first_step
        later = e.changes[number_ + 1].after if number_ + 1 < len(e.changes) else e.step
        jump = _jump(e, t, change, earlier, later)
        if jump is not None:
            return jump
    return None


def _jump(e: Evidence, t: Thresholds, change: MadeChange, earlier: int, later: int) -> Jump | None:
    reach = int(t.change_reach)
    # A learning rate has an effect only after the first update with it; other changes act from the next step on.
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
        return None  # a single batch is a spike and not caused by the change
    step = int(after.index[at])
    highest = math.nan if lost.any() else float(np.max(values[at:]))
    rescaled = change.parameters and not lost.any() and step == change.after + 1 and not _worse(e, change, values[at:])
    if not lost.any() and e.step > change.after + LATE and (rescaled or not _still_above(e, bound)):
        return None
    return Jump(change, step, middle, highest, len(losses), rescaled)


def _bound(losses: np.ndarray, t: Thresholds) -> float:
    """Return the loss above which a step counts as a jump from these; infinite if they are too few."""
    if len(losses) < FEWEST:
        return math.inf
    middle = float(np.median(losses))
    deviation = max(1.4826 * float(np.median(np.abs(losses - middle))), 0.02 * abs(middle))
    rise = t.change_jump * max(abs(middle), SMALLEST)
    return max(middle + max(rise, DEVIATIONS * deviation), float(losses.max()) + rise)


def _worse(e: Evidence, change: MadeChange, losses: np.ndarray) -> bool:
    """Return whether training itself became worse: the loss kept rising after the change, or the accuracy fell."""
    if len(losses) > FEWEST and np.median(losses[1:]) > 1.5 * losses[0]:
        return True
    name = "rewards/accuracies"
    accuracy = e.reader.scalars.read([name], first=change.after - BEFORE + 1, last=change.after + len(losses))[name].dropna()
    before, after = accuracy[accuracy.index <= change.after], accuracy[accuracy.index > change.after]
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
    """Return a sentence on how the run failed soon after a change that may be the cause; "" if it did not."""
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
    return f"It ended after step {e.step:,}: {error.rstrip('.')}."


def undo(e: Evidence, change: MadeChange) -> str:
    """Return a sentence on how to undo a change."""
    checkpoint = checkpoint_before(e.reader.folder, change.after)
    if checkpoint is not None:
        where = f"it goes back to the checkpoint of step {step_of(checkpoint):,}"
    elif e.first_step:
        where = f"no earlier checkpoint is left, so it starts again where it branched off, at step {e.first_step:,}"
    else:
        where = "no earlier checkpoint is left, so it starts again at step 1"
    resume = f"esume without the change at step {change.after:,} ({where}; train --resume --without-change {change.after})"
    if e.ended:
        return f"R{resume}."
    back = " and ".join(f"set {path} back to {format_value(old)}" for path, (old, _) in change.settings.items())
    return f"{back[0].upper()}{back[1:]}, or stop the run and r{resume}." if back else f"Stop the run and r{resume}."


@check("Harmful change during the run", "change_jump", "change_reach")
def harmful_change(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether the loss jumps, or the run fails, right after changed settings or edits of pairs."""
    if not e.changes:
        return CheckResult(missing="nothing was changed during this run")
    last = e.changes[-1]
    numbers = {"steps since the last change": float(e.step - last.after)}
    jump = jump_after_change(e, t)
    if jump is None:
        return CheckResult(numbers)
    change = jump.change
    numbers |= {"change made after step": float(change.after)}
    numbers |= {} if math.isnan(jump.before) else {"loss before the change, median [nats]": jump.before}
    when = f"after step {change.after:,}, {change.message}"
    if jump.error:
        message = f"The run failed right after a change: {when}. {jump.error} {undo(e, change)}"
        return CheckResult(numbers, message, "error", since=change.after, change=change.after)
    if math.isnan(jump.loss):
        return CheckResult(numbers)  # reported by the check `not_finite`
    numbers |= {"loss after it, highest [nats]": jump.loss, "first step of the jump": float(jump.step)}
    rise = (
        f"It was {number(jump.before)} in the {jump.steps} steps before and up to {number(jump.loss)} from step {jump.step:,} on."
    )
    if jump.rescaled:
        message = (
            f"The loss jumped because a change made it another function of the same policy: {when}. {rise} Its values before and "
            f"after the change cannot be compared; compare accuracy{_accuracy(e)} and log-probs instead."
        )
        return CheckResult(numbers, message, "notice", since=jump.step, change=change.after)
    message = f"The loss jumped right after a change: {when}. {rise} {undo(e, change)}"
    batch = e.reader.pairs.batch(jump.step)
    pairs = () if batch.empty else tuple(batch.sort_values("loss", ascending=False)["pair"])[:3]
    return CheckResult(numbers, message, "warning", pairs, jump.step, change=change.after)


def _accuracy(e: Evidence) -> str:
    accuracy = e.now("rewards/accuracies")
    return f" ({percent(accuracy.value)} of the latest pairs)" if accuracy else ""
