"""The view of curves: loss and pushes of all objectives along one axis of the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from app.state.learn.learn_address import DIRECTIONS, LearnState
from app.views.learn.shown import Shown, attempt, show_figure
from app.widgets.figure import dark
from lab.plots.landscapes.slices import cut, slices_figure
from lab.teaching import along


def draw(shown: Sequence[Shown], state: LearnState, opening: LearnState, prefix: str) -> LearnState:
    """Draw the view; return the state with the axis chosen in it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        direction = st.segmented_control(
            "x axis",
            list(DIRECTIONS),
            default=opening.along,
            required=True,
            format_func=lambda name: DIRECTIONS[name],
            key=f"{prefix}.along",
            help="The margin log X₁ − log X₂ with both sides moving, or one side alone; the other side is then held at the point.",
            persist_state="page",
        )
        relative = st.toggle(
            "Each on its own scale",
            key=f"{prefix}.relative",
            help="Divide every objective by its own largest value, to compare shapes.",
            persist_state="page",
        )
    held = {"margin": 0.0, "log_x1": state.point[1], "log_x2": state.point[0]}[direction]
    slices = []
    for one in shown:
        data = attempt(one, along, one.objective, state.plane, DIRECTIONS[direction], held)
        if data is not None:
            slices.append(cut(one.label, data))
    if not slices:
        return replace(state, along=direction)
    for cell, quantity in zip(st.columns(2), ("loss", "push")):
        with cell:
            figure = slices_figure(slices, quantity=quantity, relative=relative, dark=dark())
            show_figure(figure, f"learn-curves-{quantity}", large=state.projector)
    return replace(state, along=direction)
