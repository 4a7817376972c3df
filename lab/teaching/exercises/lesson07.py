"""Exercises of lesson 07: the faults of ten runs, named from their curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.errors import did_you_mean
from lab.run.handle import runs
from lab.teaching.lessons.clues import clues
from lab.teaching.lessons.faults import FAULTS, NAMES, run_name

from .registry import Verdict, exercise

BY_NAME = {fault.name: fault for fault in FAULTS.values()}


@exercise("07.1")
def seen_in_training(answer: Any) -> Verdict:
    """Faults of runs 1 to 4, which the training curves show."""
    return _judge((1, 2, 3, 4), answer)


@exercise("07.2")
def seen_on_other_pairs(answer: Any) -> Verdict:
    """Faults of runs 5 to 8, which held-out pairs and sampled answers show."""
    return _judge((5, 6, 7, 8), answer)


@exercise("07.3")
def seen_in_the_gradient(answer: Any) -> Verdict:
    """Faults of runs 9 and 10, which the gradient shows."""
    return _judge((9, 10), answer)


def clues_of_latest(number: int) -> dict[str, float] | None:
    """Return the clues of the latest finished run of a number, or None."""
    run = next(
        (run for run in runs(states=["finished"], archived=None) if run.manifest["config"]["name"] == run_name(number)), None
    )
    return None if run is None else clues(run)


def _judge(numbers: tuple[int, ...], answer: Any) -> Verdict:
    form = "{" + ", ".join(f'{number}: "..."' for number in numbers) + "}"
    if not isinstance(answer, Mapping) or set(answer) != set(numbers):
        return Verdict(False, f"Give a dictionary with a name for each of these runs: {form}.")
    for number in numbers:
        if answer[number] not in BY_NAME:
            return Verdict(
                False,
                f"Run {number}: {answer[number]!r} is none of the names; choose one of {', '.join(NAMES)}."
                f"{did_you_mean(answer[number], NAMES)}",
            )
    reasons = []
    for number in numbers:
        observed = clues_of_latest(number)
        if observed is None:
            return Verdict(False, f"Run {number} has not finished; run the cells that start the ten runs and wait for them.")
        truth, named = FAULTS[number], BY_NAME[answer[number]]
        if named is not truth:
            reason = named.contradiction(observed) or f"The numbers do not exclude {named.name!r}, but something else was changed."
            return Verdict(False, f"Run {number}: {reason}")
        reasons.append(f"{number}, {truth.name}: {truth.evidence(observed)}.")
    return Verdict(True, " ".join(reasons))
