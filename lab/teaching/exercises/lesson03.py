"""Exercises of lesson 03, gradient imbalance and likelihood displacement."""

from __future__ import annotations

import math
from typing import Any

from lab.objectives import make_objective
from lab.teaching.plane import Plane
from lab.teaching.reading import Reading, read_point

from .judging import choice, number
from .registry import Verdict, exercise


def dpo_at(log_x1: float, log_x2: float) -> Reading:
    """Return DPO's numbers at a point of the plane."""
    return read_point(make_objective("dpo"), Plane(), (log_x1, log_x2), rate=1.0)


@exercise("03.1")
def ratio(answer: Any) -> Verdict:
    """Ratio of increase to decrease of DPO at log X1 = 1, log X2 = -2."""
    point = dpo_at(1.0, -2.0)
    right = point.ratio
    return number(
        answer,
        right,
        why=f"X2/X1 = exp(-2 - 1) = {right:.4f}: per unit of the ratios themselves (not per nat), the loss acts on the rejected "
        f"side about {1 / right:.0f} times as strongly as the chosen side.",
        wrong=(
            (point.log_space_ratio, "This is the ratio of the pushes, in nats; the question is about X1 and X2 themselves."),
            (1 / right, "This is X1/X2, the ratio of decrease to increase; the chosen side belongs into the numerator."),
            (math.log(right), "This is the logarithm of the ratio, log X2 - log X1; apply the exponential function."),
            (math.exp(-1), "This is X1·X2; divide the two ratios, which subtracts their logarithms: log X2 - log X1."),
            (-2.0, "This divides the logarithms; divide X2 by X1, which subtracts the logarithms."),
        ),
        otherwise="The ratio is X2/X1, and the logarithms of X1 and X2 are given.",
    )


@exercise("03.2")
def known_from_the_loss(answer: Any) -> Verdict:
    """Choose the statement about the chosen log-probs that follows from a falling DPO loss."""
    up, down = (dpo_at(x1, x2).loss for x1, x2 in ((6.0, 0.0), (-6.0, -12.0)))
    proof = f"The loss is {up:.3f} at (log X1, log X2) = (6, 0), and {down:.3f} at (-6, -12)"
    return choice(
        answer,
        {
            "a": (False, f"{proof}: it falls in the same way while the chosen answer becomes e^6 times less likely."),
            "b": (False, f"{proof}: displacement is common, but the loss does not show it, so it cannot be concluded from it."),
            "c": (True, f"{proof}. Loss, margin and accuracy see the difference alone; read log X1 itself."),
        },
    )


@exercise("03.3")
def displaced_point(answer: Any) -> Verdict:
    """A point that DPO prefers to (0, 0) although the chosen answer is less likely than before."""
    try:
        log_x1, log_x2 = (float(value) for value in answer)
    except (TypeError, ValueError):
        return Verdict(False, "Give two numbers, log X1 and log X2, as in (1, -2).")
    if not all(math.isfinite(value) and abs(value) <= 50 for value in (log_x1, log_x2)):
        return Verdict(False, "Give two finite numbers between -50 and 50 nats.")
    start, loss = (dpo_at(x1, x2).loss for x1, x2 in ((0.0, 0.0), (log_x1, log_x2)))
    numbers = f"The loss is {loss:.4f} there and {start:.4f} at (0, 0)"
    if log_x1 >= 0:
        return Verdict(False, f"At log X1 = {log_x1:g} the chosen answer is not less likely than before; log X1 must be below 0.")
    if math.isclose(loss, start, rel_tol=1e-9):
        return Verdict(False, f"{numbers}: both answers fell equally far, which DPO does not notice. The loss has to be lower.")
    if loss > start:
        return Verdict(False, f"{numbers}: the chosen answer fell further than the rejected one, so the loss rose.")
    return Verdict(
        True,
        f"{numbers}, although the chosen answer is {math.exp(-log_x1):,.1f} times less likely than under the reference: "
        "it is enough that the rejected answer falls further.",
    )
