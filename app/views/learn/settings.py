"""The settings of the Learn page beside its pictures: up to three objectives with their parameters, the plane, the step size.

Each part is a fragment of its own: a change draws that part and the pictures anew, not the whole page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from app.state.learn.learn_address import SLOTS, LearnState, Spec
from app.state.recipe import build_objective, changed_parameters
from app.text.labels import objective_label
from app.text.plain import plain
from app.views.learn.knobs import knobs
from lab.objectives import OBJECTIVES, Objective
from lab.teaching import Plane

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


def draw(opening: LearnState, prefix: str, follow: str) -> None:
    """Draw all settings; `current` returns what is set in them.

    Args:
        opening: The state in which the widgets begin.
        prefix: Prefix of the widgets' keys.
        follow: Key of the fragment that is drawn after the part in which a setting was changed.
    """
    for slot in SLOTS:
        _part(slot, _objective, follow, slot, opening.objectives.get(slot), prefix)
    _part("plane", _plane, follow, opening, prefix)
    _part("rate", _rate, follow, opening, prefix)


def _part(name: str, content: Callable[..., None], follow: str, *given: Any) -> None:
    key = f"learn.settings.{name}"
    st.fragment(content, key=key)(*given, lambda: st.rerun([key, follow]))


def current(state: LearnState, prefix: str) -> LearnState:
    """Return the state with what is set beside the pictures; of a part that is not valid, the last values that were."""
    session = st.session_state
    built = {slot: session.get(f"{prefix}.{slot}.now") for slot in SLOTS}
    return replace(
        state,
        objectives={slot: spec(objective) for slot, objective in built.items() if objective is not None},
        plane=replace(session[f"{prefix}.plane.now"], batch=state.plane.batch, seed=session[f"{prefix}.seed"]),
        rate=session[f"{prefix}.rate.now"],
    )


def _objective(slot: str, given: Spec | None, prefix: str, on_change: Callable[[], None]) -> None:
    names = [*(name for name in FIRST if name in OBJECTIVES), *sorted(set(OBJECTIVES) - {*FIRST})]
    begin = given["name"] if given else ""
    now = f"{prefix}.{slot}.now"
    with st.expander(f"Objective {slot}", expanded=bool(given)):
        name = st.selectbox(
            f"Objective {slot}",
            ["", *names],
            index=["", *names].index(begin),
            format_func=lambda n: objective_label(n) if n else "none",
            key=f"{prefix}.{slot}",
            label_visibility="collapsed",
            on_change=on_change,
            persist_state="page",
        )
        if not name:
            st.session_state[now] = None
            return
        start: Mapping[str, Any] = given if given and name == begin else {}
        wide = st.session_state.get(f"{prefix}.{slot}.wide", False)
        own = {key: value for key, value in start.items() if key != "name"}
        values = knobs(OBJECTIVES[name], own, f"{prefix}.{slot}.{name}", on_change, wide=wide)
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
            if st.session_state.get(now):
                st.caption("The pictures show the last values that worked.")
            return
        for message in objective.warnings():
            st.warning(plain(message))
    st.session_state[now] = objective


def _plane(opening: LearnState, prefix: str, on_change: Callable[[], None]) -> None:
    """Draw what all objectives share, except the small batch and the random draws, which are changed in the views."""
    start, now = opening.plane, f"{prefix}.plane.now"
    st.session_state.setdefault(f"{prefix}.seed", start.seed)

    def slider(label: str, limits: tuple[Any, Any], value: Any, step: float, key: str, help_text: str) -> Any:
        return st.slider(
            label, *limits, value, step, "%g", key=f"{prefix}.{key}", help=help_text, on_change=on_change, persist_state="page"
        )

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
            on_change=on_change,
            persist_state="page",
        )
        try:
            st.session_state[now] = Plane(
                log_x1=x1,
                log_x2=x2,
                tokens=(n_w, n_l),
                ref=(ref_w, ref_l),
                statistics="this batch" if seen else "before the first step",
            )
        except ValueError as error:
            st.error(plain(str(error)))
            st.session_state.setdefault(now, Plane())


def draw_again(prefix: str) -> None:
    """Take the next seed of the objectives' random draws, from a button's callback."""
    st.session_state[f"{prefix}.seed"] = (st.session_state.get(f"{prefix}.seed", 0) + 1) % 2**31


def _rate(opening: LearnState, prefix: str, on_change: Callable[[], None]) -> None:
    """Draw the step size of gradient descent; None stands for one that fits the field."""
    with st.expander("Gradient descent", expanded=False):
        fitting = st.toggle(
            "Step size that fits the field",
            opening.rate is None,
            key=f"{prefix}.fitting",
            help="A step size of each objective's own, with which descent crosses the plane in some tens of steps. "
            "Off: one step size for all, to compare how far they move.",
            on_change=on_change,
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
            on_change=on_change,
            persist_state="page",
        )
    st.session_state[f"{prefix}.rate.now"] = None if fitting else float(given)
