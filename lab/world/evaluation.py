"""What sampled answers are worth: oracle reward, share of valid answers, length, and wins against other answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from lab.intervals import Interval, mean_interval, share_interval, win_rate

from .oracle import score

if TYPE_CHECKING:
    from .world import World


@dataclass(frozen=True)
class Evaluation:
    """Answers to some prompts, judged. The prompts are the sample: intervals are over prompts, each with its own mean.

    reward: the oracle's total.   valid: share of answers made of the language's sentences only.   words: mean length.
    win:    share of comparisons with the reference answers to the same prompt that are won, ties half; None without any.
    groups: the same for each group of held-out prompts.
    """

    reward: Interval
    valid: float
    message: float
    win: Interval | None = None
    groups: dict[str, Evaluation] = field(default_factory=dict)


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
    message: float
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
        fmean(found.message for found in judged),
        share_interval(wins) if wins else None,
        dict(groups or {}),
    )
