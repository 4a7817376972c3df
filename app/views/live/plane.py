"""The scatter of all pairs over the objective's own field. The field is the library's, with the run's parameters, and is kept."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import streamlit as st

from app.state.landscapes import Point, field_over, held_fixed
from app.state.objective_in_use import spec_at
from app.state.recipe import build_objective
from app.text.plain import plain
from app.views.live.charts import chart
from app.widgets import figure
from lab.objectives import FieldData
from lab.plots import Record, as_dicts, plane, plane_ranges
from lab.plots.run.plane import SIDES
from lab.run.handle import Run

TYPICAL = ((8, 8), (-2.0, -2.0))
"""Tokens of both answers and the reference's log-prob of each (nats), where no answer's tokens are kept."""


def scatter(run: Run, record: Record) -> None:
    """Draw it; a sentence where the objective's field cannot be had."""
    frame = record.pairs()
    spec = spec_at(run, record.until)
    x_range, y_range = plane_ranges(frame)
    tokens, ref = answers(record)
    field: FieldData | None = None
    held = ""
    try:
        if len(frame):
            written = json.dumps(spec, sort_keys=True)
            field = _field(written, x_range, y_range, tokens, ref, _spread(frame) if _remembers(written) else ())
            held = _held(written, tokens)
    except ValueError as error:
        st.caption(plain(f"The objective's field cannot be drawn: {error}"))
    note = f"field of {spec['name']} for answers of {tokens[0]} and {tokens[1]} tokens" if field is not None else ""

    def draw() -> dict[str, Any]:
        with as_dicts():
            parts: Any = plane(frame, field, batch=record.step, note=note, held=held, dark=figure.dark())
        parts["layout"]["uirevision"] = f"{record.reader.folder.name}/plane"
        return parts

    chart(record, "plane", draw=draw, depends=(id(field), note), opens=True)


def answers(record: Record) -> tuple[tuple[int, int], Point]:
    """Mean length of both answers and the reference's mean log-prob of a token, of the first batch whose tokens are kept."""
    run = record.reader.folder.name
    kept: dict[str, tuple[tuple[int, int], Point]] = st.session_state.setdefault("answers", {})
    if run not in kept:
        steps = record.reader.tokens.steps()
        if not steps:
            return TYPICAL
        rows = record.reader.tokens.read(steps[0])
        sides = [rows[rows["side"] == side] for side in ("chosen", "rejected")]
        lengths = tuple(max(1, round(float(np.mean([len(ids) for ids in side["ids"]])))) for side in sides)
        known = [[logps for logps in side["ref_logps"] if logps is not None] for side in sides]
        levels = tuple(round(float(np.concatenate(logps).mean()), 1) if logps else -2.0 for logps in known)
        kept[run] = ((lengths[0], lengths[1]), (min(levels[0], 0.0), min(levels[1], 0.0)))
    return kept[run]


def _spread(frame: Any) -> tuple[Point, ...]:
    """A few points that stand for all, rounded to whole nats: what an objective with moving statistics has seen."""
    if not set(SIDES) <= set(frame.columns):
        return ()
    shares = np.linspace(0.1, 0.9, 5)
    one, other = (np.nanquantile(frame[side].to_numpy(np.float64), shares).round() for side in SIDES)
    return tuple((float(x), float(y)) for x, y in zip(one, other[::-1]) if np.isfinite(x) and np.isfinite(y))


@lru_cache(32)
def _remembers(spec: str) -> bool:
    """Whether an objective's loss depends on what it has seen."""
    objective = build_objective(json.loads(spec))
    return objective.needs_dataset or bool(objective.initial_state())


@lru_cache(32)
def _held(spec: str, tokens: tuple[int, int]) -> str:
    return held_fixed(build_objective(json.loads(spec)), tokens)


@lru_cache(32)
def _field(spec: str, x: Point, y: Point, tokens: tuple[int, int], ref: Point, seen: tuple[Point, ...]) -> FieldData:
    return field_over(build_objective(json.loads(spec)), x, y, tokens=tokens, ref=ref, seen=seen)
