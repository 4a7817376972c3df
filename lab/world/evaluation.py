"""What sampled answers are worth: oracle reward, share of valid answers, length, and wins against other answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

from .oracle import score

if TYPE_CHECKING:
    from .world import World

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; low and high are NaN where one value alone says nothing of the spread."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """Answers to some prompts, judged. The prompts are the sample: intervals are over prompts, each with its own mean.

    reward: the oracle's total.   valid: share of answers made of the language's sentences only.   words: mean length.
    win:    share of comparisons with the reference answers to the same prompt that are won, ties half; None without any.
    groups: the same for each group of held-out prompts.
    """

    reward: Interval
    valid: float
    words: float
    win: Interval | None = None
    groups: dict[str, Evaluation] = field(default_factory=dict)


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval by the normal approximation, mean +- 1.96 s / sqrt(n); give independent values,
    that is one per prompt. Raises ValueError for no values."""
    if not values:
        raise ValueError("There are no values to average; give at least one.")
    middle = fmean(values)
    half = _Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Interval(middle, middle - half, middle + half)


def win_rate(rewards: Sequence[float], reference: Sequence[float]) -> float:
    """Share of all pairs (one of `rewards`, one of `reference`) that the first wins, ties half, in [0, 1].

    Answers to one prompt; a policy against samples of itself has 0.5 in expectation. Raises ValueError where one is empty.
    """
    if not rewards or not reference:
        raise ValueError("A win rate compares answers with reference answers; give at least one of each.")
    wins = sum((a > b) + 0.5 * (a == b) for a in rewards for b in reference)
    return wins / (len(rewards) * len(reference))


def evaluate_answers(
    world: World | None,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str]],
    reference: Sequence[Sequence[str]] | None = None,
) -> Evaluation:
    """Judge `answers[i]`, one or more to `prompts[i]`, by the oracle.

    world:     its held-out groups are judged apart as well; None for no groups.
    reference: answers of another policy to the same prompts, to win against; two answers and four references a prompt
               keep the noise of the rate small.
    Raises ValueError where the lengths do not agree or a prompt has no answer.
    """
    for name, given in (("answers", answers), ("reference answers", reference)):
        if given is not None and len(given) != len(prompts):
            raise ValueError(
                f"There are {len(prompts)} prompts but {name} to {len(given)}; give one list of answers to each prompt."
            )
        if given is not None and not all(given):
            number = next(i for i, found in enumerate(given, 1) if not found)
            raise ValueError(f"Prompt {number} has no {name}; give at least one to each prompt.")
    groups = world.held_out_groups if world is not None else {}
    judged = [_judge(prompt, own, reference[i] if reference else None) for i, (prompt, own) in enumerate(zip(prompts, answers))]
    members: dict[str, list[_Judged]] = {}
    for prompt, found in zip(prompts, judged):
        if prompt in groups:
            members.setdefault(groups[prompt], []).append(found)
    return _summary(judged, {name: _summary(found) for name, found in members.items()})


@dataclass(frozen=True)
class _Judged:
    """Means over the answers to one prompt."""

    reward: float
    valid: float
    words: float
    win: float | None


def _judge(prompt: str, answers: Sequence[str], reference: Sequence[str] | None) -> _Judged:
    scores = [score(prompt, answer) for answer in answers]
    rewards = [s.total for s in scores]
    win = win_rate(rewards, [score(prompt, answer).total for answer in reference]) if reference else None
    return _Judged(fmean(rewards), fmean(s.valid for s in scores), fmean(len(a.split()) for a in answers), win)


def _summary(judged: Sequence[_Judged], groups: Mapping[str, Evaluation] | None = None) -> Evaluation:
    if not judged:
        raise ValueError("There are no prompts to judge answers to; give at least one.")
    wins = [found.win for found in judged if found.win is not None]
    return Evaluation(
        mean_interval([found.reward for found in judged]),
        fmean(found.valid for found in judged),
        fmean(found.words for found in judged),
        mean_interval(wins) if wins else None,
        dict(groups or {}),
    )
