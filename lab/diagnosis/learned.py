"""Checks of generalisation: whether the run does as well on pairs that it was not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.intervals import share_interval

from .advice import Advice
from .checks import CheckResult, check, number, percent
from .evidence import Evidence
from .thresholds import Thresholds

FEWEST_EPOCHS = 2.0
"""Epochs before which no pair can be memorised: in the last one every pair is seen again."""

ACCURACY_STEPS = 1000
"""Maximum number of latest steps that are read for the accuracy of the last epoch."""


@dataclass(frozen=True)
class Unseen:
    """Accuracy on pairs that the run had not trained on.

    Attributes:
        accuracy: Share of the pairs ranked correctly.
        pairs: Number of pairs.
        message: Phrase that names the pairs.
    """

    accuracy: float
    pairs: int
    message: str

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        right = round(self.accuracy * self.pairs)
        interval = share_interval([1.0] * right + [0.0] * (self.pairs - right))
        return interval.low, interval.high


@check("No held-out pairs")
def nothing_held_out(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether no pair is held out, so that memorising cannot be told from generalising."""
    events = e.events("held_out")["detail"]
    evaluates, share = bool(e.config.get("evaluate", True)), e.setting("held_out", 0.0)
    if len(events):
        apart = len(events.iloc[-1].get("pairs", ()))
    elif e.manifest.get("config") and (not evaluates or share == 0):
        apart = 0
    else:
        return CheckResult(missing="the held-out pairs are not recorded")
    epochs, trained = _epochs(e), _training_pairs(e)
    numbers = {"held-out pairs": float(apart), "epochs": epochs} | ({"training pairs": float(trained)} if trained else {})
    if apart:
        return CheckResult(numbers)
    if not evaluates:
        why, remedy = "evaluate is off", "evaluate on" if share else "evaluate on and held_out at 0.05 or more"
    elif share == 0:
        why, remedy = "held_out is 0", "held_out at 0.05 or more"
    else:
        why = f"held_out {number(share)} selects none of so few prompts"
        remedy = f"more pairs, or held_out above {number(share)}"
    which = f"All {trained:,} pairs" if trained else "All pairs"
    often = f" and each was seen {epochs:.2g} times" if epochs > 1 else ""
    first = "" if epochs > 1 else " During the first epoch the training curves still show pairs before they are trained on."
    message = (
        f"No pairs are held out, so nothing shows whether the run generalises. {which} are trained on "
        f"({why}){often}.{first} Start a new run with {remedy}; a run and its branches keep their held-out pairs."
    )
    return CheckResult(
        numbers, message, "warning" if epochs > 1 and evaluates else "notice"
    )  # evaluate was switched off deliberately


@check("Memorised pairs", "few_pairs", "learned_accuracy")
def memorised(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether nearly all of a few pairs are ranked correctly after some epochs, with no evidence on other pairs."""
    epochs, count = _epochs(e), _training_pairs(e)
    if count is None or epochs < FEWEST_EPOCHS:
        return CheckResult(missing=f"the check needs {FEWEST_EPOCHS:.0f} epochs")
    steps = min(ACCURACY_STEPS, math.ceil(count / e.setting("batch_size", 1)))
    accuracy = float(e.recent("rewards/accuracies", steps).dropna().mean())
    numbers = {"accuracy in the last epoch [share]": accuracy, "training pairs": float(count), "epochs": epochs}
    if math.isnan(accuracy):
        return CheckResult(missing="no accuracy is recorded")
    every = [one for one in (_held_out(e), _first_seen(e)) if one is not None]
    if every:
        numbers["accuracy on pairs not trained on [share]"] = every[0].accuracy
    if count > t.few_pairs or accuracy < t.learned_accuracy:
        return CheckResult(numbers)
    if any(one.interval[0] > accuracy - t.held_out_gap for one in [*every, *_together(every)]):
        return CheckResult(numbers)
    behind = next((one for one in every if one.interval[1] < accuracy and accuracy - one.accuracy > t.held_out_gap), None)
    trained = f"After {epochs:.2g} epochs it ranks {percent(accuracy)} of them correctly"
    advice = Advice(e)
    remedies = ["fewer epochs", "more pairs", advice.rate()]
    if behind is not None:
        message = (
            f"The run has memorised its {count:,} training pairs. {trained}, but only {percent(behind.accuracy)} of "
            f"{behind.message}. {advice.helps(*remedies)}"
        )
        return CheckResult(numbers, message, "warning", _lowest_held_out(e) if behind is every[0] else ())
    few = f"too few other pairs show whether it generalises ({every[0].message})" if every else "no other pairs show it"
    message = (
        f"The run may have memorised its {count:,} training pairs. {trained}, and {few}. "
        f"{advice.helps('more held-out pairs to find out', *remedies)}"
    )
    return CheckResult(numbers, message, "notice")


@check("Held-out accuracy behind training", "held_out_gap")
def held_out_behind(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether pairs that are trained on are ranked correctly much more often than held-out ones."""
    accuracies = e.evaluations("eval/rewards/accuracies")
    if accuracies.empty or accuracies.index[-1] <= e.first_step:
        return CheckResult(missing="the check needs an evaluation on held-out pairs after some training")
    step, held_out = int(accuracies.index[-1]), float(accuracies.iloc[-1])
    name = "rewards/accuracies"
    trained = e.reader.scalars.read([name], first=max(1, step - e.window + 1), last=step)[name].dropna()
    apart = e.reader.held_out.latest(e.step)
    if len(trained) < 8 or apart.empty:
        return CheckResult(missing="too few steps around the evaluation")
    training, seen = float(trained.mean()), len(trained) * e.setting("batch_size", 1)
    error = math.sqrt(training * (1 - training) / seen + held_out * (1 - held_out) / len(apart))
    epochs = _epochs(e)
    numbers = {
        "accuracy in training [share]": training,
        "accuracy on held-out pairs [share]": held_out,
        "standard error of the difference [share]": error,
        "held-out pairs": float(len(apart)),
        "epochs": epochs,
    }
    if training - held_out <= max(t.held_out_gap, 2 * error) or _is_memorised(e, t):
        return CheckResult(numbers)
    passes = f" (after {epochs:.2g} epochs)" if not math.isnan(epochs) else ""
    advice = Advice(e)
    remedies = ["fewer epochs", "more pairs", advice.rate()] if not epochs <= 1 else ["more pairs", "pairs of the held-out kind"]
    message = (
        f"Held-out accuracy is behind training accuracy. {percent(training)} of the training pairs are ranked correctly, but only "
        f"{percent(held_out)} of the {len(apart)} held-out ones at step {step:,}{passes}. {advice.helps(*remedies)}"
    )
    return CheckResult(numbers, message, "warning", _lowest_held_out(e), step)


def _is_memorised(e: Evidence, t: Thresholds) -> bool:
    result = memorised(e, t)
    return bool(result.message) and result.severity == "warning"


def _epochs(e: Evidence) -> float:
    """Return the number of epochs; NaN if it is not recorded."""
    epochs = e.recent("epoch").dropna()
    return float(epochs.iloc[-1]) if len(epochs) else math.nan


def _training_pairs(e: Evidence) -> int | None:
    """Return the number of pairs per epoch, from the epochs added by a step; None before two steps on the same pairs."""
    added = np.diff(e.recent("epoch").dropna().to_numpy())
    return round(e.setting("batch_size", 1) / added[-1]) if len(added) and added[-1] > 0 else None


def _held_out(e: Evidence) -> Unseen | None:
    """Return the accuracy on the held-out pairs at the latest evaluation after some training, or None."""
    accuracies = e.evaluations("eval/rewards/accuracies")
    apart = e.reader.held_out.latest(e.step)
    if accuracies.empty or accuracies.index[-1] <= e.first_step or apart.empty:
        return None
    which = f"the {len(apart)} held-out pair{'s' if len(apart) > 1 else ''} at step {int(accuracies.index[-1]):,}"
    return Unseen(float(accuracies.iloc[-1]), len(apart), which)


def _first_seen(e: Evidence) -> Unseen | None:
    """Return the accuracy on the pairs of the second half of the first epoch, before each was trained on.

    None for a branch, whose parent has trained on them.
    """
    if e.first_step:
        return None
    size = e.setting("batch_size", 1)
    first = e.reader.scalars.read(["epoch"], first=1, last=1)["epoch"].dropna()
    steps = math.floor(1 / float(first.iloc[0]) + 1e-6) if len(first) and first.iloc[0] > 0 else 0
    half = steps // 2
    name = "rewards/accuracies"
    accuracies = e.reader.scalars.read([name], first=half + 1, last=min(steps, e.step))[name].dropna()
    if steps > ACCURACY_STEPS or accuracies.empty:
        return None
    pairs = round(len(accuracies) * size)
    return Unseen(
        float(accuracies.mean()),
        pairs,
        f"the {pairs} pairs of the second half of its first epoch, before it trained on them",
    )


def _together(every: list[Unseen]) -> list[Unseen]:
    """Merge two accuracies into one; empty if there are fewer."""
    if len(every) < 2:
        return []
    pairs = sum(one.pairs for one in every)
    return [Unseen(sum(one.accuracy * one.pairs for one in every) / pairs, pairs, "")]


def _lowest_held_out(e: Evidence) -> tuple[str, ...]:
    """Return the held-out pairs with the lowest margins."""
    apart = e.reader.held_out.latest(e.step)
    if apart.empty:
        return ()
    margins = (apart["reward_chosen"] - apart["reward_rejected"]).to_numpy(np.float64)
    return tuple(apart["pair"].iloc[np.argsort(margins, kind="stable")])[:5]
