"""Fields of objectives below a scatter of pairs, facts about an objective, and the thread in which fields are computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import ParamSpec, TypeVar

import numpy as np
import pandas as pd
import torch

from lab.objectives import Draws, FieldData, Objective, PairLogps, field, pairs_at

BENEATH, BENEATH_ALONE = 41, 15
"""Points along each axis of a field below a scatter."""

Point = tuple[float, float]

P = ParamSpec("P")
T = TypeVar("T")


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
    return on_one_core(_field_over, objective, log_x1, log_x2, tokens, ref, seen)


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
    return on_one_core(_held_fixed, objective, tokens)


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


def on_one_core(work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Call a function in the thread whose tensor operations use one core, and return its result. Raises what it raises."""
    return _worker().submit(work, *args, **more).result()
