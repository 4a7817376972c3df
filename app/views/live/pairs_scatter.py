"""The scatter of all pairs over the gradient field of the run's objective, which is computed by the library and kept."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import streamlit as st

from app.state.objective_in_use import spec_at
from app.state.recipe import build_objective
from app.text.plain import plain
from app.views.live.charts import chart
from app.widgets import figure
from lab.objectives import FieldData, Objective
from lab.pairs import PairsError, PairStore
from lab.pairs.query import NumberRange, PairQuery
from lab.plots import Record, as_dicts, plane, plane_ranges
from lab.plots.landscapes.computed import (
    TYPICAL,
    Point,
    depends_on_history,
    field_over,
    held_fixed,
    representative_points,
    typical_answers,
)
from lab.plots.run.plane import SIDES
from lab.run.handle import Run

MOST_WEIGHTS = 20_000
"""Pairs whose weight is drawn; those of a larger number have the size of weight 1."""


def scatter(run: Run, record: Record) -> None:
    """Draw the pairs over the field; without the field, and with a sentence, if the objective cannot be built."""
    frame = record.pairs()
    spec = spec_at(run, record.until)
    x_range, y_range = plane_ranges(frame)
    tokens, ref = answers(record)
    field: FieldData | None = None
    held = ""
    try:
        if len(frame):
            written = json.dumps(spec, sort_keys=True)
            seen = _points(frame) if depends_on_history(_objective(written)) else ()
            field = _field(written, x_range, y_range, tokens, ref, seen)
            held = held_fixed(_objective(written), tokens)
    except ValueError as error:
        st.caption(plain(f"The objective's field cannot be drawn: {error}"))
    note = f"field of {spec['name']} for answers of {tokens[0]} and {tokens[1]} tokens" if field is not None else ""

    weights = _weights(run)

    def draw() -> dict[str, Any]:
        weighed = frame.assign(weight=frame["pair"].map(weights).fillna(1.0)) if weights and len(frame) else frame
        with as_dicts():
            parts: Any = plane(weighed, field, batch=record.step, note=note, held=held, dark=figure.dark())
        parts["layout"]["uirevision"] = f"{record.reader.folder.name}/plane"
        return parts

    chart(record, "plane", draw=draw, depends=(id(field), note, id(weights)), opens=True)


def _weights(run: Run) -> dict[str, float]:
    """Return the weights other than 1 in the run's pair set as it is now, by pair; none where the set cannot be read."""
    try:
        with run.pair_store() as store:
            return _weights_of(store.location, store.version)
    except PairsError:
        return {}


@lru_cache(8)
def _weights_of(location: str, version: int) -> dict[str, float]:
    with PairStore(location) as store:
        limits = (NumberRange("weight", None, 1 - 1e-9), NumberRange("weight", 1 + 1e-9, None))
        ids = [id for each in limits for id in store.matching(PairQuery(state="all", numbers=(each,)))]
        return {id: numbers["weight"] for id, numbers in store.numbers(ids[:MOST_WEIGHTS]).items()}


def answers(record: Record) -> tuple[tuple[int, int], Point]:
    """Return the typical lengths and reference log-probs of answers, from the first step whose tokens are kept."""
    run = record.reader.folder.name
    kept: dict[str, tuple[tuple[int, int], Point]] = st.session_state.setdefault("answers", {})
    if run not in kept:
        steps = record.reader.tokens.steps()
        if not steps:
            return TYPICAL
        kept[run] = typical_answers(record.reader.tokens.read(steps[0]))
    return kept[run]


def _points(frame: Any) -> tuple[Point, ...]:
    if not set(SIDES) <= set(frame.columns):
        return ()
    chosen, rejected = (frame[side].to_numpy(np.float64) for side in SIDES)
    return representative_points(chosen, rejected)


@lru_cache(32)
def _objective(spec: str) -> Objective:
    return build_objective(json.loads(spec))


@lru_cache(32)
def _field(spec: str, x: Point, y: Point, tokens: tuple[int, int], ref: Point, seen: tuple[Point, ...]) -> FieldData:
    return field_over(_objective(spec), x, y, tokens=tokens, ref=ref, seen=seen)
