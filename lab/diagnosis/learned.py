"""Checks of whether what a run has learned holds for pairs that it was not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.intervals import share_interval

from .advice import Advice
from .checks import Seen, check, number, percent
from .evidence import Evidence
from .thresholds import Thresholds

FEWEST_EPOCHS = 2.0
"""Passes through the pairs before which nothing can have been learned by heart: in the last one every pair is met again."""

LOOKED_AT_STEPS = 1000
"""Latest steps that are read for the accuracy of the last epoch, at most."""


@dataclass(frozen=True)
class Unseen:
    """How many of some pairs that the run had not trained on it told apart. words: which pairs these are."""

    accuracy: float
    pairs: int
    message: str

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        right = round(self.accuracy * self.pairs)
        found = share_interval([1.0] * right + [0.0] * (self.pairs - right))
        return found.low, found.high


@check("No held-out pairs")
def nothing_held_out(e: Evidence, t: Thresholds) -> Seen:
    """No pair is kept out of the training, so nothing tells learning from learning by heart."""
    events = e.events("held_out")["detail"]
    looks, share = bool(e.config.get("evaluate", True)), e.setting("held_out", 0.0)
    if len(events):
        apart = len(events.iloc[-1].get("pairs", ()))
    elif e.manifest.get("config") and (not looks or share == 0):
        apart = 0
    else:
        return Seen(waits="it is not recorded which pairs are held out")
    epochs, trained = _epochs(e), _training_pairs(e)
    numbers = {"held-out pairs": float(apart), "epochs": epochs} | ({"training pairs": float(trained)} if trained else {})
    if apart:
        return Seen(numbers)
    if not looks:
        why, remedy = "evaluate is off", "evaluate on" if share else "evaluate on and held_out at 0.05 or more"
    elif share == 0:
        why, remedy = "held_out is 0", "held_out at 0.05 or more"
    else:
        why = f"of so few prompts held_out {number(share)} takes none"
        remedy = f"more pairs, or held_out above {number(share)}"
    which = f"All {trained:,} pairs" if trained else "All pairs"
    often = f" and each was seen {epochs:.2g} times" if epochs > 1 else ""
    first = "" if epochs > 1 else " Until the first epoch is over, the training curves show pairs that are met for the first time."
    message = (
        f"No pairs are held out, so nothing shows how the run does on pairs that it does not train on. {which} are trained on "
        f"({why}){often}.{first} Start a run with {remedy}; which pairs are held out cannot change in a run or its branches."
    )
    return Seen(numbers, message, "warning" if epochs > 1 and looks else "notice")  # evaluate is switched off on purpose


@check("Pairs learned by heart", "few_pairs", "learned_accuracy")
def memorised(e: Evidence, t: Thresholds) -> Seen:
    """Nearly all of a few pairs are told apart after some epochs, and nothing shows that others are, too."""
    epochs, count = _epochs(e), _training_pairs(e)
    if count is None or epochs < FEWEST_EPOCHS:
        return Seen(waits=f"pairs can be learned by heart from {FEWEST_EPOCHS:.0f} epochs on")
    steps = min(LOOKED_AT_STEPS, math.ceil(count / e.setting("batch_size", 1)))
    accuracy = float(e.recent("rewards/accuracies", steps).dropna().mean())
    numbers = {"accuracy in the last epoch [share]": accuracy, "training pairs": float(count), "epochs": epochs}
    if math.isnan(accuracy):
        return Seen(waits="no accuracy is recorded")
    every = [one for one in (_held_out(e), _first_met(e)) if one is not None]
    if every:
        numbers["accuracy on pairs not trained on [share]"] = every[0].accuracy
    if count > t.few_pairs or accuracy < t.learned_accuracy:
        return Seen(numbers)
    if any(one.interval[0] > accuracy - t.held_out_gap for one in [*every, *_together(every)]):
        return Seen(numbers)
    behind = next((one for one in every if one.interval[1] < accuracy and accuracy - one.accuracy > t.held_out_gap), None)
    told = f"After {epochs:.2g} epochs it tells {percent(accuracy)} of them apart"
    advice = Advice(e)
    remedies = ["fewer epochs", "more pairs", advice.rate()]
    if behind is not None:
        message = (
            f"The run has learned its {count:,} training pairs by heart. {told}, but {percent(behind.accuracy)} of "
            f"{behind.message}. {advice.helps(*remedies)}"
        )
        return Seen(numbers, message, "warning", _lowest_held_out(e) if behind is every[0] else ())
    few = "too few others show whether it does so on them" if every else "no others show whether it does so on them"
    few += f" ({every[0].message})" if every else ""
    message = (
        f"The run may have learned its {count:,} training pairs by heart. {told}, and {few}. "
        f"{advice.helps('more held-out pairs to know it', *remedies)}"
    )
    return Seen(numbers, message, "notice")


@check("Held-out accuracy behind training", "held_out_gap")
def held_out_behind(e: Evidence, t: Thresholds) -> Seen:
    """The pairs that are trained on are told apart much better than those that are not."""
    looks = e.looks("eval/rewards/accuracies")
    if looks.empty or looks.index[-1] <= e.first_step:
        return Seen(waits="it takes an evaluation on held-out pairs after some training")
    step, held_out = int(looks.index[-1]), float(looks.iloc[-1])
    name = "rewards/accuracies"
    trained = e.reader.scalars.read([name], first=max(1, step - e.window + 1), last=step)[name].dropna()
    apart = e.reader.held_out.latest(e.step)
    if len(trained) < 8 or apart.empty:
        return Seen(waits="too few steps around the evaluation")
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
    if training - held_out <= max(t.held_out_gap, 2 * error) or _told_as_memorised(e, t):
        return Seen(numbers)
    passes = f" (after {epochs:.2g} epochs)" if not math.isnan(epochs) else ""
    advice = Advice(e)
    remedies = ["fewer epochs", "more pairs", advice.rate()] if not epochs <= 1 else ["more pairs", "pairs of the held-out kind"]
    message = (
        f"Held-out accuracy falls behind that of training. {percent(training)} of the training pairs are told apart but "
        f"{percent(held_out)} of the {len(apart)} held-out ones at step {step:,}{passes}. {advice.helps(*remedies)}"
    )
    return Seen(numbers, message, "warning", _lowest_held_out(e), step)


def _told_as_memorised(e: Evidence, t: Thresholds) -> bool:
    seen = memorised(e, t)
    return bool(seen.message) and seen.severity == "warning"


def _epochs(e: Evidence) -> float:
    """Passes through the pairs; NaN where they are not recorded."""
    epochs = e.recent("epoch").dropna()
    return float(epochs.iloc[-1]) if len(epochs) else math.nan


def _training_pairs(e: Evidence) -> int | None:
    """Pairs that an epoch holds, from what a step adds to the epochs; None before there are two steps of one pair set."""
    added = np.diff(e.recent("epoch").dropna().to_numpy())
    return round(e.setting("batch_size", 1) / added[-1]) if len(added) and added[-1] > 0 else None


def _held_out(e: Evidence) -> Unseen | None:
    """The held-out pairs at the latest evaluation after some training."""
    looks = e.looks("eval/rewards/accuracies")
    apart = e.reader.held_out.latest(e.step)
    if looks.empty or looks.index[-1] <= e.first_step or apart.empty:
        return None
    which = f"the {len(apart)} held-out pair{'s' if len(apart) > 1 else ''} at step {int(looks.index[-1]):,}"
    return Unseen(float(looks.iloc[-1]), len(apart), which)


def _first_met(e: Evidence) -> Unseen | None:
    """The pairs of the second half of the run's first epoch, as they were before the first step on them. None for a branch, whose
    parent has met them."""
    if e.first_step:
        return None
    size = e.setting("batch_size", 1)
    first = e.reader.scalars.read(["epoch"], first=1, last=1)["epoch"].dropna()
    steps = math.floor(1 / float(first.iloc[0]) + 1e-6) if len(first) and first.iloc[0] > 0 else 0
    half = steps // 2
    told = e.reader.scalars.read(["rewards/accuracies"], first=half + 1, last=min(steps, e.step))["rewards/accuracies"].dropna()
    if steps > LOOKED_AT_STEPS or told.empty:
        return None
    pairs = round(len(told) * size)
    return Unseen(
        float(told.mean()),
        pairs,
        f"the {pairs} pairs of the second half of its first epoch, as they were before it trained on them",
    )


def _together(every: list[Unseen]) -> list[Unseen]:
    """Both as one, where there are two."""
    if len(every) < 2:
        return []
    pairs = sum(one.pairs for one in every)
    return [Unseen(sum(one.accuracy * one.pairs for one in every) / pairs, pairs, "")]


def _lowest_held_out(e: Evidence) -> tuple[str, ...]:
    """The held-out pairs with the lowest margins."""
    apart = e.reader.held_out.latest(e.step)
    if apart.empty:
        return ()
    margins = (apart["reward_chosen"] - apart["reward_rejected"]).to_numpy(np.float64)
    return tuple(apart["pair"].iloc[np.argsort(margins, kind="stable")])[:5]
