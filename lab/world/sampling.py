"""Preference pairs whose true preference degree is known: labels drawn from a Bradley-Terry model on the oracle's rewards."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .language import Task, write_answer
from .oracle import score
from .tasks import PHRASINGS

Reward = Callable[[str, str], float]
"""(prompt, answer) -> reward of the annotator who labels the pairs."""


def oracle_reward(prompt: str, answer: str) -> float:
    """The oracle's total: the annotator who judges as the oracle does, apart from chance."""
    return score(prompt, answer).total


def preference_probability(gap: float, temperature: float) -> float:
    """P(first preferred) = sigmoid(gap / temperature), the Bradley-Terry model (Bradley & Terry 1952).

    gap: reward of the first answer minus reward of the second; temperature: in units of reward, above 0.
    """
    return 0.5 * (1 + math.tanh(gap / (2 * temperature)))


def sample_pairs(
    questions: Sequence[tuple[Task, str]],
    count: int,
    rng: random.Random,
    *,
    temperature: float,
    least_gap: float = 0.0,
    reward: Reward = oracle_reward,
) -> list[dict[str, Any]]:
    """`count` pairs as rows in TRL's explicit format (prompt, chosen, rejected), no two alike, with these columns beside:

    reward_chosen, reward_rejected, true_gap: the oracle's rewards and their difference, chosen minus rejected;
    preference_probability: P(chosen preferred) under the annotator, below 0.5 where chance decided against the better answer;
    noisy: the oracle likes the rejected answer better;   why_chosen, why_rejected: the oracle's reasons in words;   task.

    questions:  (task, prompt) to draw from.   temperature: of the annotator, in units of reward.
    least_gap:  pairs whose true rewards differ by less are not taken.
    reward:     the annotator's own reward; give another one to study, say, an annotator who likes long answers.
    """
    rows: list[dict[str, Any]] = []
    known: set[tuple[str, ...]] = set()
    while len(rows) < count:
        task, prompt = rng.choice(questions)
        answers = [write_answer(task, rng.random(), rng) for _ in range(2)]
        key = (prompt, *sorted(answers))
        scores = {answer: score(prompt, answer) for answer in answers}
        if len(scores) < 2 or key in known or abs(scores[answers[0]].total - scores[answers[1]].total) < least_gap:
            continue
        known.add(key)
        probability = preference_probability(reward(prompt, answers[0]) - reward(prompt, answers[1]), temperature)
        if rng.random() >= probability:
            answers.reverse()
            probability = 1 - probability
        chosen, rejected = answers
        gap = scores[chosen].total - scores[rejected].total
        rows.append(
            {
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "reward_chosen": round(scores[chosen].total, 4),
                "reward_rejected": round(scores[rejected].total, 4),
                "true_gap": round(gap, 4),
                "preference_probability": round(probability, 6),
                "noisy": gap < 0,
                "why_chosen": scores[chosen].reason,
                "why_rejected": scores[rejected].reason,
                "task": task.ask,
            }
        )
    return rows


def sample_demonstrations(tasks: Sequence[Task], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) of mixed quality to training phrasings of some tasks; what the model is tuned on."""
    while True:
        task = rng.choice(tasks)
        yield task.question(rng.choice(PHRASINGS)), write_answer(task, rng.random(), rng)
