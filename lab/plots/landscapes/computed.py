"""Fields of objectives over the plane of log X₁ and log X₂, computed once per objective and kept.

Of several objectives on a page, a change recomputes only the one that was changed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import torch

from lab.objectives import Draws, FieldData, Objective, PairLogps, State, Trajectory, field, flow, pairs_at
from lab.plots.landscapes.landscape import descent_rate

FINE, COARSE = 61, 21
"""Points along each axis; coarse if the objective couples the pairs of a batch, because every point is then a call of its own."""

BENEATH, BENEATH_ALONE = 41, 15
"""Points along each axis of a field below a scatter."""

STEPS, FEW_STEPS = 80, 30
"""Steps of a descent path; few if every point is a call of its own."""

MOST_STARTS = 12
FURTHEST, MOST_TOKENS, LOWEST_REF = 50.0, 64, -8.0
"""Limits of a plane: nats in either direction, tokens of an answer, nats per token."""

Point = tuple[float, float]
Direction = Literal["margin", "log X₁", "log X₂"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Plane:
    """The plane over which objectives are drawn.

    Attributes:
        log_x1: Range of the horizontal axis, nats.
        log_x2: Range of the vertical axis, nats.
        tokens: Lengths of the two answers.
        ref: The reference's log-prob of each token of the two answers, nats.
        starts: Start points of gradient descent.
        seed: Seed of the objective's random draws.
        seen: True for moving statistics after one batch made of the start points, False for those before the first step.
    """

    log_x1: Point = (-10.0, 10.0)
    log_x2: Point = (-10.0, 10.0)
    tokens: tuple[int, int] = (8, 8)
    ref: Point = (-2.0, -2.0)
    starts: tuple[Point, ...] = ((0.0, 0.0), (-6.0, 0.0), (0.0, 6.0), (-8.0, 8.0), (6.0, -2.0), (-8.0, -8.0))
    seed: int = 0
    seen: bool = True

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


@dataclass(frozen=True)
class Landscape:
    """An objective over a plane.

    Attributes:
        data: The field.
        path: Descent from the start points; None without any.
        rate: Step size of the descent.
        draws: The objective's random draws.
        state: The objective's moving statistics.
    """

    data: FieldData
    path: Trajectory | None
    rate: float
    draws: Draws
    state: State


@lru_cache(32)
def landscape(objective: Objective, plane: Plane) -> Landscape:
    """Compute the field of an objective and its descent. Raises what the objective raises."""
    return _quickly(_landscape, objective, plane)


@lru_cache(64)
def along(objective: Objective, plane: Plane, direction: Direction, held: float) -> FieldData:
    """Compute the field for curves along one axis.

    Args:
        objective: The objective.
        plane: The plane.
        direction: "margin" for the whole plane, or the log-ratio that varies.
        held: Value of the other log-ratio, nats.
    """
    return landscape(objective, plane).data if direction == "margin" else _quickly(_line, objective, plane, direction, held)


def _landscape(objective: Objective, plane: Plane) -> Landscape:
    alone = objective.couples(training=False)
    fixed = _fixed(objective, plane)
    N, steps = (COARSE, FEW_STEPS) if alone else (FINE, STEPS)
    data = field(objective, torch.linspace(*plane.log_x1, N), torch.linspace(*plane.log_x2, N), **fixed)
    rate = descent_rate(data, steps=steps)
    path = flow(objective, plane.starts, steps=steps, rate=rate, **fixed) if plane.starts else None
    return Landscape(data, path, rate, fixed["draws"], fixed["state"])


def _line(objective: Objective, plane: Plane, direction: Direction, held: float) -> FieldData:
    N, one = 4 * FINE if not objective.couples(training=False) else 2 * COARSE, torch.tensor([held])
    if direction == "log X₁":
        return field(objective, torch.linspace(*plane.log_x1, N), one, **_fixed(objective, plane))
    return field(objective, one, torch.linspace(*plane.log_x2, N), **_fixed(objective, plane))


def field_over(
    objective: Objective, log_x1: Point, log_x2: Point, *, tokens: tuple[int, int], ref: Point, seen: tuple[Point, ...] = ()
) -> FieldData:
    """Compute the field of an objective over a plane of any size, as the background of a scatter.

    Args:
        objective: The objective.
        log_x1: Range of the horizontal axis, nats.
        log_x2: Range of the vertical axis, nats.
        tokens: Lengths of the two answers.
        ref: The reference's log-prob of each token, nats.
        seen: Points of the batch that moving statistics were updated with; () for none.

    Raises what the objective raises.
    """
    return _quickly(_field_over, objective, log_x1, log_x2, tokens, ref, seen)


def _field_over(
    objective: Objective, log_x1: Point, log_x2: Point, tokens: tuple[int, int], ref: Point, seen: tuple[Point, ...]
) -> FieldData:
    def at(points: tuple[Point, ...]) -> PairLogps:
        x1, x2 = torch.tensor(points, dtype=torch.float64).unbind(-1)
        return pairs_at(objective, x1, x2, tokens=tokens, ref=ref)

    def drawn(pairs: PairLogps) -> Draws:
        return objective.draw(pairs, torch.Generator().manual_seed(0))

    state = objective.initial_state()
    batch = at(seen or ((0.0, 0.0),))
    if objective.needs_dataset:
        state = objective.dataset_state([batch])
    elif state and seen:
        with torch.no_grad():
            state = objective(batch, state, drawn(batch), training=True)[1]
    N = BENEATH_ALONE if objective.couples(training=False) else BENEATH
    axes = (torch.linspace(*log_x1, N), torch.linspace(*log_x2, N))
    return field(objective, *axes, tokens=tokens, ref=ref, state=state, draws=drawn(at(((0.0, 0.0),))))


SAMPLES = ((0.5, -0.5), (-1.0, 1.5), (2.0, 0.7), (-2.3, -1.1), (0.3, 2.9), (-0.7, -3.1), (1.9, -1.6))
"""Points at which a field's derivatives are compared with its values, nats."""


@lru_cache(64)
def held_fixed(objective: Objective, tokens: tuple[int, int] = (8, 8)) -> str:
    """Return which part the gradient of the loss treats as constant: "margin", "something" for another part, "" for none.

    Compares finite differences of the loss at a few points with its derivatives: most disagree if a part is held fixed.
    """
    return _quickly(_held_fixed, objective, tokens)


def _held_fixed(objective: Objective, tokens: tuple[int, int]) -> str:
    near = torch.tensor([-1e-3, 0.0, 1e-3], dtype=torch.float64)
    state = objective.initial_state()
    pairs = pairs_at(objective, *(torch.tensor(axis) for axis in zip(*SAMPLES)), tokens=tokens, ref=(-2.0, -2.0))
    if objective.needs_dataset:
        state = objective.dataset_state([pairs])
    elif state:
        with torch.no_grad():
            state = objective(pairs, state, objective.draw(pairs, torch.Generator().manual_seed(0)), training=True)[1]
    differ = 0
    for x, y in SAMPLES:
        data = field(objective, x + near, y + near, tokens=tokens, ref=(-2.0, -2.0), state=state)
        measured = torch.stack([data.value[2, 1] - data.value[0, 1], data.value[1, 2] - data.value[1, 0]]) / 2e-3
        given = torch.stack([data.d_log_x1[1, 1], data.d_log_x2[1, 1]])
        differ += bool((measured - given).abs().max() > 1e-3 * (given.abs().max() + 1e-6))
    if 2 * differ <= len(SAMPLES):
        return ""
    with torch.no_grad():
        outcome = objective(pairs, state, objective.draw(pairs, torch.Generator().manual_seed(0)), training=False)[0]
    return "margin" if "target_margin" in outcome.terms else "something"


def draws_tokens(objective: Objective) -> bool:
    """Return whether the objective draws tokens of the answers at random, as SGDPO draws its pilots."""
    zero = torch.zeros(2, dtype=torch.float64)
    pairs = pairs_at(objective, zero, zero, tokens=(4, 4), ref=(-2.0, -2.0))
    state = objective.dataset_state([pairs]) if objective.needs_dataset else objective.initial_state()
    with torch.no_grad():
        outcome = objective(pairs, state, objective.draw(pairs, torch.Generator().manual_seed(0)), training=False)[0]
    return "pilot_chosen" in outcome.token_terms


def depends_on_history(objective: Objective) -> bool:
    """Return whether the loss depends on batches or a data set seen before."""
    return objective.needs_dataset or bool(objective.initial_state())


TYPICAL: tuple[tuple[int, int], Point] = ((8, 8), (-2.0, -2.0))
"""Tokens of both answers and the reference's log-prob of each (nats), for runs without token values."""


def typical_answers(tokens: pd.DataFrame) -> tuple[tuple[int, int], Point]:
    """Return the mean lengths of both answers and the reference's mean log-prob of a token, nats.

    Args:
        tokens: Token values of a step in the columns of `StoreReader.tokens`.
    """
    sides = [tokens[tokens["side"] == side] for side in ("chosen", "rejected")]
    lengths = [max(1, round(float(np.mean([len(ids) for ids in side["ids"]])))) for side in sides]
    known = [[logps for logps in side["ref_logps"] if logps is not None] for side in sides]
    levels = [min(round(float(np.concatenate(logps).mean()), 1), 0.0) if logps else -2.0 for logps in known]
    return (lengths[0], lengths[1]), (levels[0], levels[1])


def representative_points(log_x1: np.ndarray, log_x2: np.ndarray) -> tuple[Point, ...]:
    """Return a few points, rounded to whole nats, that stand for the quantiles of all pairs' log-ratios [n], [n]."""
    shares = np.linspace(0.1, 0.9, 5)
    x1, x2 = (np.nanquantile(values, shares).round() for values in (log_x1, log_x2))
    return tuple((float(x), float(y)) for x, y in zip(x1, x2[::-1]) if np.isfinite(x) and np.isfinite(y))


def parse_starts(text: str) -> tuple[Point, ...]:
    """Parse points written as "0, 0; -3, 2". Raises ValueError with one sentence."""
    points = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        try:
            one, other = (float(number) for number in part.split(","))
        except ValueError:
            raise ValueError(f"{part!r} is no start point; write two numbers, log X₁ and log X₂, as in 0, 0; -3, 2.") from None
        if not max(abs(one), abs(other)) <= 1000:
            raise ValueError(f"The start point {part!r} is too far out; stay within 1000 nats.")
        points.append((one, other))
    if len(points) > MOST_STARTS:
        raise ValueError(f"There are {len(points)} start points; give at most {MOST_STARTS}.")
    return tuple(points)


def written(points: tuple[Point, ...]) -> str:
    """Write points as `parse_starts` reads them."""
    return "; ".join(f"{one:g}, {other:g}" for one, other in points)


@cache
def _worker() -> ThreadPoolExecutor:
    """Return a thread whose tensor operations use one core.

    A descent is hundreds of operations on a few numbers each, and some of them (the log-sigmoid) use all cores for one number:
    if another process keeps a core busy, that takes 1300 ms instead of 50.
    """
    cores = torch.get_num_threads()
    worker = ThreadPoolExecutor(1, "landscape", initializer=_use_one_core)
    worker.submit(int).result()
    torch.set_num_threads(cores)  # later threads inherit the last setting of any thread
    return worker


def _use_one_core() -> None:
    torch.get_num_threads()  # the first call reads the common setting, and would overwrite this thread's own
    torch.set_num_threads(1)


def _quickly(work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    return _worker().submit(work, *args, **more).result()


def _fixed(objective: Objective, plane: Plane) -> dict[str, Any]:
    """Return the arguments of `field` and `flow` that are constant over the plane."""
    origin = _pairs(objective, ((0.0, 0.0),), plane)
    draws = objective.draw(origin, torch.Generator().manual_seed(plane.seed))
    return {"tokens": plane.tokens, "ref": plane.ref, "draws": draws, "state": _state(objective, plane)}


def _state(objective: Objective, plane: Plane) -> State:
    before = objective.initial_state()
    if not (objective.needs_dataset or (before and plane.seen)):
        return before
    batch = _pairs(objective, plane.starts or ((0.0, 0.0),), plane)
    if objective.needs_dataset:
        return objective.dataset_state([batch])
    draws = objective.draw(batch, torch.Generator().manual_seed(plane.seed))
    with torch.no_grad():
        return objective(batch, before, draws, training=True)[1]


def _pairs(objective: Objective, points: tuple[Point, ...], plane: Plane) -> PairLogps:
    """Build pairs at these points of the plane."""
    x1, x2 = torch.tensor(points, dtype=torch.float64).unbind(-1)
    return pairs_at(objective, x1, x2, tokens=plane.tokens, ref=plane.ref)
