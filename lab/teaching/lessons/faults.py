"""Ten faults of training runs for lesson 07: how each is made, the signs by which it is known, and what helps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lab.errors import LabError
from lab.pairs import Pair, answer_text

from .clues import UNITS
from .world_stores import world_store

SETTINGS: Mapping[str, Any] = {
    "objective": "dpo",
    "pairs": "world",
    "model": "world",
    "steps": 60,
    "batch_size": 8,
    "learning_rate": 5e-4,
    "seed": 1,
    "eval_every": 0,
    "eval_prompts": 24,
    "eval_tokens": 100,
    "panel_pairs": 0,
    "save_every": 0,
    "probe_budget": 0.2,
}
"""Settings of the healthy run; a fault changes some of them. The budget lets short runs measure the gradient by layer often."""


@dataclass(frozen=True)
class Sign:
    """A range of one clue, in which the fault puts it.

    Attributes:
        clue: Name of the clue, a key of `UNITS`.
        text: What the range means, in a clause: "the loss rises".
        low: Lower end.
        high: Upper end.
    """

    clue: str
    text: str
    low: float = -math.inf
    high: float = math.inf

    def holds(self, clues: Mapping[str, float]) -> bool:
        """Whether the clue is in the range; a clue that was not recorded is not."""
        return self.low <= clues[self.clue] <= self.high

    def value(self, clues: Mapping[str, float]) -> str:
        """The clue with its value and unit, as in "h 3.5 nats"."""
        return f"{self.clue} {clues[self.clue]:.3g} {UNITS[self.clue]}".rstrip()


@dataclass(frozen=True)
class Fault:
    """A fault of a run.

    Attributes:
        name: Its name, by which students call it.
        meaning: What is wrong, in a sentence.
        remedy: What helps, in a sentence.
        signs: What its clues look like; together they exclude all other faults.
        checks: Kinds of findings of `run.diagnose()` that name this fault.
        settings: Settings that differ from `SETTINGS`.
        pairs: Makes the pairs of the run from those of the embedded world; None for the world's own.
    """

    name: str
    meaning: str
    remedy: str
    signs: tuple[Sign, ...]
    checks: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    pairs: Callable[[list[Pair]], Iterable[Pair]] | None = None

    def contradiction(self, clues: Mapping[str, float]) -> str:
        """Return the sentence in which a run's clues exclude this fault; "" if they do not."""
        sign = next((sign for sign in self.signs if not sign.holds(clues)), None)
        return "" if sign is None else f"With the fault {self.name!r} {sign.text}; here: {sign.value(clues)}."

    def evidence(self, clues: Mapping[str, float]) -> str:
        """Return what of a run's clues shows this fault."""
        return "; ".join(f"{sign.text} ({sign.value(clues)})" for sign in self.signs)


def swapped(pair: Pair) -> Pair:
    """Return a pair with its two answers exchanged."""
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def _longer_is_chosen(pairs: list[Pair]) -> list[Pair]:
    apart = [pair for pair in pairs if abs(len(pair.chosen) - len(pair.rejected)) > 60]
    return [pair if len(pair.chosen) > len(pair.rejected) else swapped(pair) for pair in apart]


def _copies(pairs: list[Pair]) -> list[Pair]:
    return [replace(pair, id=f"{pair.id}-{copy}") for pair in pairs[:15] for copy in range(40)]


def _one_word_apart(pairs: list[Pair]) -> list[Pair]:
    def other(text: str) -> str:
        words = text.split(" ")
        middle = len(words) // 2
        words[middle] = "cold" if words[middle] == "warm" else "warm"
        return " ".join(words)

    return [replace(pair, rejected=other(answer_text(pair.chosen))) for pair in pairs[:1000]]


FAULTS = {
    1: Fault(
        "beta too small",
        "A nat of log-ratio hardly counts, so the loss cannot fall while the policy moves.",
        "Take β from the usual range (0.01 to 0.5), and read log X₁ and log X₂ beside the loss.",
        (
            Sign("loss, change", "the loss stays within 0.01 nats of its start", -0.01, 0.01),
            Sign("h", "the two log-ratios part all the same, by more than a nat", low=1),
        ),
        ("parameters",),
        {"objective": {"name": "dpo", "beta": 0.001}},
    ),
    2: Fault(
        "learning rate too high",
        "Each step overshoots, and the policy leaves the language.",
        "Divide the learning rate by 3 to 10 and start again from the beginning.",
        (
            Sign("loss, change", "the loss ends above its start", low=0.2),
            Sign("KL", "the policy is more than 50 nats per answer from the reference", low=50),
            Sign("gradient norm, growth", "the gradient norm grows", low=2),
        ),
        ("rate_too_high",),
        {"learning_rate": 1e-2},
    ),
    3: Fault(
        "beta too large",
        "The sigmoid is saturated after a nat or two: most pairs get no push, and the wrongly labelled ones a large loss.",
        "Lower β; the policy may then move further before a pair counts as learned.",
        (
            Sign("pairs without push", "half of the pairs have lost their push", low=0.5),
            Sign("h", "the log-ratios are only a few nats apart", 0.5, 5),
        ),
        ("saturated", "parameters"),
        {"objective": {"name": "dpo", "beta": 5.0}},
    ),
    4: Fault(
        "learning rate too low",
        "The policy hardly moves.",
        "Raise the learning rate ten times, until the log-ratios move.",
        (
            Sign("h", "the two log-ratios are still less than 0.05 nats apart", -0.05, 0.05),
            Sign("KL", "the policy is the reference, within 0.05 nats per answer", high=0.05),
        ),
        ("rate_too_low",),
        {"learning_rate": 1e-7},
    ),
    5: Fault(
        "labels flipped",
        "Chosen and rejected are exchanged in all pairs, held-out ones too, so training and held-out curves look healthy.",
        "Read pairs and sampled answers; swap the pairs back.",
        (
            Sign("accuracy, held out", "held-out pairs are ordered as their labels say", low=0.65),
            Sign("reward, change", "the answers become much worse", high=-1),
            Sign("length, growth", "the answers do not grow longer", high=1.25),
            Sign("h", "the chosen answers, as they are labelled, gain on the rejected", low=0),
            Sign("KL", "the policy stays within 20 nats per answer of the reference", high=20),
            Sign("log X₂", "the rejected answers fall by some nats, not by tens", low=-20),
        ),
        pairs=lambda pairs: [swapped(pair) for pair in pairs],
    ),
    6: Fault(
        "few pairs, many epochs",
        "Each pair is seen many times and learned by heart.",
        "Fewer epochs, more pairs, more held-out pairs.",
        (
            Sign("epochs", "each pair is seen more than twice", low=2),
            Sign("accuracy, training", "nearly all training pairs are ordered correctly", low=0.95),
        ),
        ("memorised",),
        {"steps": 80},
        lambda pairs: pairs[:40],
    ),
    7: Fault(
        "length decides the labels",
        "The longer answer is always the chosen one, so the policy learns to write longer answers.",
        "Pairs whose sides are equally long, or an objective that takes length into account.",
        (
            Sign("length, growth", "the sampled answers grow by more than a quarter", low=1.25),
            Sign("accuracy, held out", "held-out pairs are ordered almost without a mistake", low=0.85),
            Sign("reward, change", "the oracle likes them less", high=-0.3),
        ),
        ("grows_longer",),
        pairs=_longer_is_chosen,
    ),
    8: Fault(
        "copies of the same pairs",
        "A few pairs stand in the file many times, so they are learned by heart within one epoch.",
        "Remove the copies; count different prompts, not rows.",
        (
            Sign("epochs", "the epoch is not over", high=1),
            Sign("accuracy, training", "nearly all training pairs are ordered correctly", low=0.95),
            Sign("accuracy, held out", "held-out pairs are not", high=0.75),
        ),
        pairs=_copies,
    ),
    9: Fault(
        "answers that hardly differ",
        "The two answers of a pair differ in one word, so what raises one and what lowers the other cancel in shared tokens.",
        "Use pairs that differ in more than a word.",
        (
            Sign("cosine", "the gradients of both sides oppose each other (cosine below -0.6)", high=-0.6),
            Sign("log X₂", "the rejected answers fall far", high=-15),
            Sign("accuracy, held out", "held-out pairs are ordered almost without a mistake", low=0.85),
        ),
        ("sides_opposed",),
        pairs=_one_word_apart,
    ),
    10: Fault(
        "stop-gradient missing",
        "The gradient flows through AlphaDPO's margin, which runs away from the chosen answers.",
        "Set stop_gradient to true.",
        (
            Sign("first push", "the first push on the chosen answers is negative", high=0),
            Sign("h", "the chosen answers fall behind the rejected ones", high=0),
        ),
        ("goes_backwards", "parameters"),
        {"objective": {"name": "alpha_dpo", "alpha": 0.2, "stop_gradient": False}},
    ),
}
"""The faults by the number of their run."""

NAMES = tuple(sorted(fault.name for fault in FAULTS.values()))
"""Names of the faults in alphabetical order, which gives no hint."""


def run_name(number: int) -> str:
    """Return the name of the run of a number, which does not tell its fault."""
    return f"lesson 07, run {number}"


def faulty_run(number: int) -> dict[str, Any]:
    """Return the arguments of `lab.train` for the run of a number.

    Args:
        number: 1 to 10.

    Raises:
        LabError: There is no such run.
    """
    fault = FAULTS.get(number)
    if fault is None:
        raise LabError(f"There is no run {number!r}; give a number from 1 to {len(FAULTS)}.")
    settings = {**SETTINGS, **fault.settings, "name": run_name(number)}
    if fault.pairs is not None:
        settings["pairs"] = world_store(fault.pairs, f"lesson-07-{number}")
    return settings
