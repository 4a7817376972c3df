"""All numbers of an objective at one point of the plane, exact by autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lab.objectives import Draws, FieldData, Objective, Outcome, PairLogps, State, with_credit
from lab.plots.landscapes.computed import on_one_core

from .pair_numbers import Point
from .plane import Plane, at, constants, landscape


@dataclass(frozen=True, eq=False)
class Reading:
    """An objective at one point.

    Attributes:
        point: (log X₁, log X₂), nats.
        loss: The loss, nats.
        push_chosen: -dL/dlog X₁: above 0 descent makes the chosen answer more likely.
        push_rejected: dL/dlog X₂: above 0 descent makes the rejected answer less likely.
        ratio: Ratio of increase to decrease |dL/dX₁| / |dL/dX₂|; inf or NaN where the second is 0.
        log_space_ratio: |dL/dlog X₁| / |dL/dlog X₂|.
        next_point: Point after one step of gradient descent at `rate`.
        rate: Step size, nats squared.
        attainable: Whether no token needs a probability above 1.
        terms: Every term of the pair by name (see `lab.glossary`), with weight_chosen and weight_rejected.
        credit_chosen: Credit of every token of the chosen answer.
        credit_rejected: Credit of every token of the rejected answer.
        draws: The objective's random draws, each [1, ...].
        logps: The pair as a batch of one.
        outcome: The objective's outcome for that batch, without gradient.
        state: The statistics that were used.
    """

    point: Point
    loss: float
    push_chosen: float
    push_rejected: float
    ratio: float
    log_space_ratio: float
    next_point: Point
    rate: float
    attainable: bool
    terms: dict[str, float]
    credit_chosen: tuple[float, ...]
    credit_rejected: tuple[float, ...]
    draws: Draws
    logps: PairLogps
    outcome: Outcome
    state: State


def read_point(
    objective: Objective, plane: Plane, point: Point, *, state: State | None = None, rate: float | None = None
) -> Reading:
    """Compute all numbers of an objective at a point, which may lie outside the plane's ranges.

    Args:
        objective: The objective.
        plane: Lengths, reference, statistics and draws; its ranges set the automatic step size.
        point: (log X₁, log X₂), nats.
        state: The objective's statistics; None for those that the plane describes.
        rate: Step size of the next point, nats squared; None for the automatic one.

    Raises what the objective raises.
    """
    size = landscape(objective, plane, state=state).rate if rate is None else rate
    return on_one_core(_read, objective, plane, point, state, size)


def _read(objective: Objective, plane: Plane, point: Point, state: State | None, rate: float) -> Reading:
    fixed = constants(objective, plane, state)
    pair, draws, used = at(objective, plane, point), fixed["draws"], fixed["state"]
    credited = with_credit(objective, pair, used, draws, training=False)
    terms = {name: float(values[0]) for name, values in credited.outcome.terms.items()}
    d1, d2 = -credited.outcome.terms["weight_chosen"], credited.outcome.terms["weight_rejected"]
    x1, x2 = (torch.tensor([value], dtype=torch.float64) for value in point)
    possible = bool((pair.chosen <= 0).all() and (pair.rejected <= 0).all())
    data = FieldData(x1, x2, credited.outcome.losses[:, None], d1[:, None], d2[:, None], torch.tensor([[possible]]))
    return Reading(
        point=point,
        loss=float(data.value),
        push_chosen=-float(d1),
        push_rejected=float(d2),
        ratio=float(data.ratio),
        log_space_ratio=float(data.log_space_ratio),
        next_point=(float(x1 - rate * d1), float(x2 - rate * d2)),
        rate=rate,
        attainable=possible,
        terms=terms,
        credit_chosen=tuple(credited.chosen[0].tolist()),
        credit_rejected=tuple(credited.rejected[0].tolist()),
        draws=draws,
        logps=pair,
        outcome=credited.outcome,
        state=used,
    )
