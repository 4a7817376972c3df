"""Sample preference pairs with known rewards: labels are drawn from a Bradley-Terry model on the oracle's rewards."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .kinds import PLAIN, Kind
from .language import Task, write_answer
from .oracle import score
from .tasks import PHRASINGS

Reward = Callable[[str, str], float]
"""(prompt, answer) -> reward of the simulated annotator who labels the pairs."""


def annotator(kind: Kind = PLAIN, length_bias: float = 0.0) -> Reward:
    """Return the reward of an annotator: the oracle's total, and `length_bias` for every word of the answer."""

    def reward(prompt: str, answer: str) -> float:
        return score(prompt, answer, kind).total + length_bias * len(answer.split())

    return reward


def preference_probability(gap: float, temperature: float) -> float:
    """Compute P(first preferred) = sigmoid(gap / temperature), the Bradley-Terry model (Bradley & Terry 1952).

    Args:
        gap: Reward of the first answer minus reward of the second.
        temperature: In units of reward, above 0.
    """
    return 0.5 * (1 + math.tanh(gap / (2 * temperature)))


def sample_pairs(
    questions: Sequence[tuple[Task, str]],
    count: int,
    rng: random.Random,
    *,
    temperature: float,
    least_gap: float = 0.0,
    kind: Kind = PLAIN,
    reward: Reward | None = None,
) -> list[dict[str, Any]]:
    """Sample `count` different pairs as rows in TRL's explicit format (prompt, chosen, rejected) with further columns.

    The columns are: reward_chosen, reward_rejected, true_gap (the oracle's rewards and their difference, chosen minus rejected);
    preference_probability (of the chosen answer under the annotator, below 0.5 where chance decided against the annotator);
    noisy (whether the oracle prefers the rejected answer); why_chosen, why_rejected (the oracle's reasons); task.

    Args:
        questions: (task, prompt) to draw from.
        count: Number of pairs.
        rng: Source of all randomness.
        temperature: Of the annotator, in units of reward.
        least_gap: Pairs whose true rewards differ by less are left out.
        kind: Kind of world: of the answers and of the oracle.
        reward: The annotator's reward, for example `annotator(kind, length_bias=0.06)`; None for the oracle's.
    """
    reward = reward or annotator(kind)
    rows: list[dict[str, Any]] = []
    known: set[tuple[str, ...]] = set()
    while len(rows) < count:
        task, prompt = rng.choice(questions)
        answers = [write_answer(task, rng.random(), rng, kind) for _ in range(2)]
        key = (prompt, *sorted(answers))
        scores = {answer: score(prompt, answer, kind) for answer in answers}
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


def sample_demonstrations(tasks: Sequence[Task], rng: random.Random, kind: Kind = PLAIN) -> Iterator[tuple[str, str]]:
    """Yield (prompt, answer) of mixed quality to training phrasings of some tasks without end; the model is tuned on these."""
    while True:
        task = rng.choice(tasks)
        yield task.question(rng.choice(PHRASINGS)), write_answer(task, rng.random(), rng, kind)
