"""An objective over the plane of log X₁ and log X₂: its field, kept per objective and plane, curves along an axis, and descent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

from lab.objectives import Draws, FieldData, Objective, PairLogps, State, Trajectory, field, flow, pairs_at
from lab.plots.landscapes.computed import on_one_core
from lab.plots.landscapes.landscape import descent_rate

from .pair_numbers import MOST_PAIRS, PairNumbers, Point
from .small_batch import USUAL_BATCH, Statistics, state_of

FINE, COARSE = 61, 17
"""Points along each axis; coarse if the objective couples the pairs of a batch, because every point is then a call of its own."""

STEPS = 80
"""Steps in which descent at the automatic step size crosses the plane twice where the field is steep."""

FURTHEST, MOST_TOKENS, LOWEST_REF = 500.0, 512, -20.0
"""Limits of a plane: nats in either direction, tokens of an answer, nats per token."""

Direction = Literal["margin", "log X₁", "log X₂"]


@dataclass(frozen=True)
class Plane:
    """The plane over which objectives are drawn.

    Attributes:
        log_x1: Range of the horizontal axis, nats.
        log_x2: Range of the vertical axis, nats.
        tokens: Lengths of the two answers.
        ref: The reference's log-prob of each token of the two answers, nats.
        batch: Pairs from which an objective with moving statistics, or statistics over a data set, takes them.
        seed: Seed of the objective's random draws.
        statistics: Moving statistics after one step on `batch`, or those before the first step.

    Raises:
        ValueError: A number is beyond the limits.
    """

    log_x1: Point = (-10.0, 10.0)
    log_x2: Point = (-10.0, 10.0)
    tokens: tuple[int, int] = (8, 8)
    ref: Point = (-2.0, -2.0)
    batch: tuple[PairNumbers, ...] = USUAL_BATCH
    seed: int = 0
    statistics: Statistics = "this batch"

    def __post_init__(self) -> None:
        for name, (low, high) in (("log X₁", self.log_x1), ("log X₂", self.log_x2)):
            if not low < high:
                raise ValueError(f"The range of {name} goes from {low:g} to {high:g}; choose one that ends above its beginning.")
            if max(abs(low), abs(high)) > FURTHEST:
                raise ValueError(f"The range of {name} goes from {low:g} to {high:g}; stay within {FURTHEST:g} nats.")
        if not all(1 <= n <= MOST_TOKENS for n in self.tokens):
            raise ValueError(f"The answers have {self.tokens[0]} and {self.tokens[1]} tokens; choose from 1 to {MOST_TOKENS}.")
        if not all(LOWEST_REF <= level <= 0 for level in self.ref):
            raise ValueError(f"The reference's log-probs are {self.ref[0]:g} and {self.ref[1]:g}; choose from {LOWEST_REF:g} to 0.")
        if not 1 <= len(self.batch) <= MOST_PAIRS:
            raise ValueError(f"The batch has {len(self.batch)} pairs; give 1 to {MOST_PAIRS}.")
        if self.statistics not in ("this batch", "before the first step"):
            raise ValueError(f"There are no statistics {self.statistics!r}; choose this batch or before the first step.")


@dataclass(frozen=True)
class Landscape:
    """An objective over a plane.

    Attributes:
        data: The field.
        rate: Automatic step size of descent, nats squared.
        draws: The objective's random draws for one pair.
        state: The objective's statistics.
    """

    data: FieldData
    rate: float
    draws: Draws
    state: State


def landscape(objective: Objective, plane: Plane, *, state: State | None = None) -> Landscape:
    """Compute the field of an objective over a plane, with an automatic step size.

    The result is kept per objective and plane, unless a state is given.

    Args:
        objective: The objective.
        plane: The plane.
        state: The objective's statistics; None for those that the plane describes.

    Raises what the objective raises.
    """
    return _kept(objective, plane) if state is None else on_one_core(_landscape, objective, plane, state)


@lru_cache(64)
def along(objective: Objective, plane: Plane, direction: Direction, held: float) -> FieldData:
    """Compute the field for curves along one axis.

    Args:
        objective: The objective.
        plane: The plane.
        direction: "margin" for the whole plane, or the log-ratio that varies.
        held: Value of the other log-ratio, nats.
    """
    return landscape(objective, plane).data if direction == "margin" else on_one_core(_line, objective, plane, direction, held)


def descent(objective: Objective, plane: Plane, point: Point, *, steps: int = STEPS // 2, rate: float | None = None) -> Trajectory:
    """Run gradient descent from a point; row 0 of the path is the point itself.

    Args:
        objective: The objective.
        plane: Lengths, reference, statistics and draws.
        point: Where the path begins, nats.
        steps: Number of gradient steps.
        rate: Step size, nats squared; None for that of the plane.

    Raises:
        ValueError: Fewer than one step, or a rate that is not positive.
    """
    size = landscape(objective, plane).rate if rate is None else rate
    return on_one_core(_descent, objective, plane, point, steps, size)


def constants(objective: Objective, plane: Plane, state: State | None = None) -> dict[str, Any]:
    """Return the arguments of `lab.objectives.field` and `flow` that are equal at all points of the plane."""
    if state is None:
        state = state_of(objective, plane.batch, seed=plane.seed, statistics=plane.statistics)
    draws = objective.draw(at(objective, plane, (0.0, 0.0)), torch.Generator().manual_seed(plane.seed))
    return {"tokens": plane.tokens, "ref": plane.ref, "draws": draws, "state": state}


def at(objective: Objective, plane: Plane, point: Point) -> PairLogps:
    """Return the pair at a point of the plane, as a batch of one."""
    x1, x2 = (torch.tensor([value], dtype=torch.float64) for value in point)
    return pairs_at(objective, x1, x2, tokens=plane.tokens, ref=plane.ref)


@lru_cache(64)
def _kept(objective: Objective, plane: Plane) -> Landscape:
    return on_one_core(_landscape, objective, plane)


def _landscape(objective: Objective, plane: Plane, state: State | None = None) -> Landscape:
    fixed = constants(objective, plane, state)
    N = COARSE if objective.couples(training=False) else FINE
    data = field(objective, torch.linspace(*plane.log_x1, N), torch.linspace(*plane.log_x2, N), **fixed)
    return Landscape(data, descent_rate(data, steps=STEPS), fixed["draws"], fixed["state"])


def _line(objective: Objective, plane: Plane, direction: Direction, held: float) -> FieldData:
    N, one = 4 * FINE if not objective.couples(training=False) else 2 * COARSE, torch.tensor([held])
    if direction == "log X₁":
        return field(objective, torch.linspace(*plane.log_x1, N), one, **constants(objective, plane))
    return field(objective, one, torch.linspace(*plane.log_x2, N), **constants(objective, plane))


def _descent(objective: Objective, plane: Plane, point: Point, steps: int, rate: float) -> Trajectory:
    return flow(objective, point, steps=steps, rate=rate, **constants(objective, plane))
