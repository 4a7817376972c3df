"""The view of the field: a point to drag over the plane of both log-ratios, and each formula with the point's numbers put in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st
import torch

from app.state.learn.learn_address import LearnState
from app.text.plain import plain
from app.views.learn import settings
from app.views.learn.shown import Shown, attempt
from app.widgets.figure import dark
from app.widgets.formula import aligned, draw_formula
from app.widgets.landscape_view import FieldPicture, show_fields
from lab.objectives import formula_of, numbers_of
from lab.teaching import Reading, field_arrays, read_point
from lab.teaching.plane import COARSE, FINE


def draw(shown: Sequence[Shown], state: LearnState, prefix: str) -> LearnState:
    """Draw the view; return the state with the point and the quantity chosen in it."""
    drawn, pictures = [], []
    for one in shown:
        arrays = attempt(one, field_arrays, one.objective, state.plane, rate=state.rate)
        if arrays is not None:
            drawn.append(one)
            pictures.append(FieldPicture(one.label, arrays))
    if not drawn:
        return state
    point, quantity = show_fields(
        pictures, point=state.point, quantity=state.quantity, key=f"{prefix}.field", large=state.projector, dark=dark()
    )
    state = replace(state, point=point, quantity=quantity)
    for cell, one, picture in zip(st.columns(len(drawn)), drawn, pictures):
        with cell, st.container(border=True):
            _card(one, picture.arrays.rate, state, prefix)
    return state


def _card(one: Shown, rate: float, state: LearnState, prefix: str) -> None:
    """Draw an objective's formula, the formula with the numbers of the point, its source and the assumptions of its picture."""
    objective = one.objective
    st.markdown(f"**{plain(one.label)}**  {plain(objective.title)}")
    draw_formula(objective)
    reading = attempt(one, read_point, objective, state.plane, state.point, rate=rate)
    if reading is None:
        return
    if formula_of(objective) is not None:
        st.caption("At the point, with its numbers:")
        lines = numbers_of(objective, reading.logps, reading.outcome, reading.state, 0)
        st.latex(aligned([line.latex for line in lines]))
    st.caption(plain(" ".join([f"{objective.source}." if objective.source else "", *_assumed(one, reading, state)]).strip()))
    if reading.draws:
        with st.container(horizontal=True, vertical_alignment="center"):
            for name, values in reading.draws.items():
                st.text(f"{name} {_marks(values)}")
            st.button(
                "Draw again",
                icon=":material/casino:",
                key=f"{prefix}.{one.slot}.draw",
                on_click=settings.draw_again,
                args=(prefix,),
            )


def _assumed(one: Shown, reading: Reading, state: LearnState) -> list[str]:
    objective, notes = one.objective, []
    if objective.couples(training=False):
        notes.append(
            f"It compares pairs, so every point is a batch of its own, and {COARSE} × {COARSE} are computed, not {FINE} × {FINE}."
        )
    if objective.needs_alignment:
        notes.append("The pair's weight is taken as 1.")
    if objective.degraded_spec() is not None:
        notes.append("Without degraded answers: the numbers are those of the alignment loss; the view Degrees has the other part.")
    if reading.state:
        when = {"this batch": "after one training step on the small batch", "before the first step": "before the first step"}
        notes.append(f"Its moving statistics are those {when[state.plane.statistics]}.")
    return notes


def _marks(values: torch.Tensor) -> str:
    """Format one pair's random draw: a filled square for every drawn token, or the numbers."""
    row = values[0].flatten().tolist()
    return "".join("■" if drawn else "□" for drawn in row) if values.dtype == torch.bool else ", ".join(f"{v:.3g}" for v in row)
