"""Exercises of lesson 02, from Bradley-Terry to DPO."""

from __future__ import annotations

import math
from typing import Any

from lab.objectives import make_objective
from lab.teaching.plane import Plane
from lab.teaching.reading import read_point

from .judging import choice, function, number
from .registry import Verdict, exercise


def dpo_loss(log_x1: float, log_x2: float, beta: float = 0.1) -> float:
    """Return DPO's loss at a point of the plane, nats."""
    return read_point(make_objective("dpo", beta=beta), Plane(), (log_x1, log_x2), rate=1.0).loss


def dpo_push(log_x1: float, log_x2: float, beta: float = 0.1) -> float:
    """Return DPO's push on the chosen side at a point of the plane, by autograd."""
    return read_point(make_objective("dpo", beta=beta), Plane(), (log_x1, log_x2), rate=1.0).push_chosen


@exercise("02.1")
def implicit_probability(answer: Any) -> Verdict:
    """Probability of the label under the implicit rewards at log X1 = -3, log X2 = -8, β = 0.1."""

    def probability(log_x1: float, log_x2: float, beta: float = 0.1) -> float:
        return math.exp(-dpo_loss(log_x1, log_x2, beta))

    return number(
        answer,
        probability(-3, -8),
        why="The rewards are β log X = -0.3 and -0.8; their difference is 0.5. Both answers became less likely, and the pair is "
        "still ordered correctly.",
        wrong=(
            (probability(-3, -8, 1.0), "This is the probability for β = 1; the rewards are β times the log-ratios, with β = 0.1."),
            (probability(-3, 0), "This looks at the chosen answer alone; Bradley-Terry compares it with the rejected answer."),
            (probability(-3, 8), "Here the two rewards were added; the model takes their difference, log X1 minus log X2."),
            (probability(-8, -3), "This is the probability of the opposite order; the chosen answer has the larger reward."),
            (0.5, "0.5 is the difference of the two rewards; the logistic function turns it into a probability."),
        ),
        otherwise="Multiply both log-ratios by β, take the difference, and call preference_probability with temperature 1.",
    )


@exercise("02.2")
def both_fall(answer: Any) -> Verdict:
    """Change of DPO's loss when both answers become less likely by the same factor."""
    before, after = dpo_loss(1, -1), dpo_loss(-1, -3)
    numbers = f"The loss is {before:.4f} before and {after:.4f} after"
    return choice(
        answer,
        {
            "a": (False, f"{numbers}. DPO has no term for the chosen answer alone: only the difference of the log-ratios counts."),
            "b": (True, f"{numbers}, because the difference of the log-ratios is 2 nats in both places."),
            "c": (False, f"{numbers}. The rejected answer fell, but so did the chosen one, by the same number of nats."),
        },
    )


@exercise("02.3")
def push(answer: Any) -> Verdict:
    """Push of DPO on the chosen side as a function of log_x1, log_x2 and beta."""

    def reversed_pair(log_x1: float, log_x2: float, beta: float) -> float:
        return dpo_push(log_x2, log_x1, beta)

    return function(
        answer,
        dpo_push,
        [{"log_x1": x1, "log_x2": x2, "beta": beta} for x1, x2, beta in ((0, 0, 0.1), (3, -2, 0.1), (-4, 1, 0.5), (-2, -9, 1.0))],
        why="The push is β times the probability that the implicit rewards give to the wrong order: large for pairs that are "
        "ordered wrongly, close to 0 for pairs that are clearly right.",
        wrong=(
            (lambda **p: -dpo_push(**p), "The sign is reversed: this is the derivative, and the push is minus the derivative."),
            (reversed_pair, "This uses the probability of the right order, so it grows for pairs that are already right."),
            (lambda **p: dpo_push(**p) / p["beta"], "The factor β in front is missing: the logit is β times the difference."),
            (
                lambda **p: dpo_push(**p) / math.exp(p["log_x1"]),
                "This is the derivative by X1 itself; the push is the derivative by log X1, which has no factor 1/X1.",
            ),
            (lambda **p: dpo_loss(**p), "This is the loss; the push is minus its derivative by log X1."),
        ),
    )
