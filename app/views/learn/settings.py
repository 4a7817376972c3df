"""The settings of the Learn page beside its pictures: up to three objectives with their parameters, the plane, the step size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.state.learn_address import SLOTS, LearnState, Spec
from app.state.recipe import build_objective, changed_parameters
from app.text.labels import objective_label
from app.text.plain import plain
from app.views.learn.knobs import knobs
from lab.objectives import OBJECTIVES, Objective
from lab.teaching import PairNumbers, Plane

REACH, LONG, LOW = 50.0, 64, -8.0
"""Ends of the sliders of the plane, unless a link needs more: nats in either direction, tokens, nats per token."""

FIRST = ("sgdpo", "alpha_dpo", "spo", "dpo", "simpo")
"""Objectives that the choice begins with."""


def spec(objective: Objective) -> Spec:
    """Return the specification of an objective without the parameters that have their default."""
    return {"name": objective.name, **changed_parameters(objective)}


def built(state: LearnState) -> dict[str, Objective]:
    """Build the objectives of a state, by slot."""
    return {slot: build_objective(given) for slot, given in state.objectives.items()}


def objectives(opening: LearnState, prefix: str) -> dict[str, Objective]:
    """Draw the forms of all slots; return the objectives by slot, the last valid one where a form is not valid."""
    drawn = {slot: _objective(slot, opening.objectives.get(slot), prefix) for slot in SLOTS}
    return {slot: objective for slot, objective in drawn.items() if objective}


def _objective(slot: str, given: Spec | None, prefix: str) -> Objective | None:
    names = [*(name for name in FIRST if name in OBJECTIVES), *sorted(set(OBJECTIVES) - {*FIRST})]
    begin = given["name"] if given else ""
    last = f"{prefix}.{slot}.last"
    with st.expander(f"Objective {slot}", expanded=bool(given)):
        name = st.selectbox(
            f"Objective {slot}",
            ["", *names],
            index=["", *names].index(begin),
            format_func=lambda n: objective_label(n) if n else "none",
            key=f"{prefix}.{slot}",
            label_visibility="collapsed",
            persist_state="page",
        )
        if not name:
            return None
        start: Mapping[str, Any] = given if given and name == begin else {}
        wide = st.session_state.get(f"{prefix}.{slot}.wide", False)
        values = knobs(OBJECTIVES[name], {k: v for k, v in start.items() if k != "name"}, f"{prefix}.{slot}.{name}", wide=wide)
        st.toggle(
            "All values",
            key=f"{prefix}.{slot}.wide",
            help="Let the sliders reach far beyond the values of the papers.",
            persist_state="page",
        )
        try:
            objective = build_objective({"name": name, **values})
        except ValueError as error:
            st.error(plain(str(error)))
            before: Objective | None = st.session_state.get(last)
            if before:
                st.caption("The pictures show the last values that worked.")
            return before
        for message in objective.warnings():
            st.warning(plain(message))
    st.session_state[last] = objective
    return objective


def plane(opening: LearnState, batch: tuple[PairNumbers, ...], prefix: str) -> Plane:
    """Draw what all objectives share; return the plane, the last valid one while the settings are not valid.

    Args:
        opening: The state in which the widgets begin.
        batch: The small batch, which has a view of its own.
        prefix: Prefix of the widgets' keys.
    """
    start = opening.plane
    seed = f"{prefix}.seed"
    st.session_state.setdefault(seed, start.seed)
    last = f"{prefix}.plane.last"

    def slider(label: str, limits: tuple[Any, Any], value: Any, step: float, key: str, help_text: str) -> Any:
        return st.slider(label, *limits, value, step, "%g", key=f"{prefix}.{key}", help=help_text, persist_state="page")

    with st.expander("Pair and plane", expanded=False):
        furthest = max(REACH, *(abs(end) for end in (*start.log_x1, *start.log_x2)))
        lengths, levels, reach = (1, max(LONG, *start.tokens)), (min(LOW, *start.ref), 0.0), (-furthest, furthest)
        n_w = slider("Tokens of the chosen answer", lengths, start.tokens[0], 1, "n_w", "Its length, n_w.")
        n_l = slider("Tokens of the rejected answer", lengths, start.tokens[1], 1, "n_l", "Its length, n_l.")
        level = "The reference's log-prob of each of its tokens; without a reference: the policy's log-prob at log-ratio 0."
        ref_w = slider("Reference, chosen (nats/token)", levels, start.ref[0], 0.1, "ref_w", level)
        ref_l = slider("Reference, rejected (nats/token)", levels, start.ref[1], 0.1, "ref_l", level)
        x1 = slider("log X₁ (nats), chosen", reach, start.log_x1, 0.5, "x1", "Range of the horizontal axis.")
        x2 = slider("log X₂ (nats), rejected", reach, start.log_x2, 0.5, "x2", "Range of the vertical axis.")
        seen = st.toggle(
            "Moving statistics of the small batch",
            start.statistics == "this batch",
            key=f"{prefix}.seen",
            help="For objectives with moving statistics, such as α-DPO's mean and std of the gap: their values after one step "
            "on the small batch, or before the first step, when α-DPO's z is 0.",
            persist_state="page",
        )
        try:
            now = Plane(
                log_x1=x1,
                log_x2=x2,
                tokens=(n_w, n_l),
                ref=(ref_w, ref_l),
                batch=batch,
                seed=st.session_state[seed],
                statistics="this batch" if seen else "before the first step",
            )
        except ValueError as error:
            st.error(plain(str(error)))
            return st.session_state.get(last, Plane())
    st.session_state[last] = now
    return now


def draw_again(prefix: str) -> None:
    """Take the next seed of the objectives' random draws, from a button's callback."""
    st.session_state[f"{prefix}.seed"] = (st.session_state.get(f"{prefix}.seed", 0) + 1) % 2**31


def rate(opening: LearnState, prefix: str) -> float | None:
    """Draw the step size of gradient descent; return None for one that fits the field."""
    with st.expander("Gradient descent", expanded=False):
        fitting = st.toggle(
            "Step size that fits the field",
            opening.rate is None,
            key=f"{prefix}.fitting",
            help="A step size of each objective's own, with which descent crosses the plane in some tens of steps. "
            "Off: one step size for all, to compare how far they move.",
            persist_state="page",
        )
        given = st.number_input(
            "Step size (nats²)",
            min_value=1e-6,
            max_value=1e6,
            value=opening.rate or 1.0,
            format="%.4g",
            key=f"{prefix}.rate",
            disabled=fitting,
            help="log X moves by this number times the push.",
            persist_state="page",
        )
    return None if fitting else float(given)
