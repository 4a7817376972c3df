"""Playground: losses of up to three objectives as landscapes, with sliders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
import torch

from app.state.recipe import build_objective
from app.text.labels import objective_label
from app.text.plain import plain
from app.views.playground.knobs import knobs
from app.views.playground.links import Spec, read_objective, read_plane, written_objective, written_plane
from app.widgets.figure import dark, show
from lab.objectives import OBJECTIVES, Objective
from lab.plots.landscapes.computed import held_fixed
from lab.plots.landscapes.landscape import QUANTITIES, field_figure
from lab.plots.landscapes.slices import cut, slices_figure
from lab.teaching import Landscape, Plane, along, landscape
from lab.teaching.plane import COARSE, FINE, FURTHEST, LOWEST_REF, MOST_TOKENS

SLOTS = ("A", "B", "C")
USUAL = {"A": "dpo", "B": "sgdpo"}
FIRST = ("sgdpo", "alpha_dpo", "spo", "dpo", "simpo")


@dataclass(frozen=True)
class Shown:
    """An objective on the page, with its slot and its landscape."""

    slot: str
    objective: Objective
    picture: Landscape

    @property
    def label(self) -> str:
        """Slot and name of the objective."""
        return f"{self.slot} · {self.objective.name}"


def page() -> None:
    """Draw the whole page."""
    st.title("Playground")
    specs, start = _opening()
    with st.sidebar:
        chosen = {slot: _objective(slot, specs.get(slot)) for slot in SLOTS}
        plane = _plane(start)
    # The address describes the picture. Other pages have their own parameters.
    address = {slot: written_objective(o) for slot, o in chosen.items() if o} | written_plane(plane)
    st.session_state["play.address"] = address
    st.query_params.from_dict(address)
    shown = [one for slot, objective in chosen.items() if objective and (one := _drawn(slot, objective, plane))]
    if not shown:
        st.info("Choose an objective on the left; its loss, its gradient and its landscape appear here.")
        return
    _cards(shown)
    _cuts(shown, plane)
    _fields(shown, plane)


def _opening() -> tuple[Mapping[str, Spec], Plane]:
    """Return objectives and plane at the start of this visit: from the address, else from the last visit, else the defaults."""
    if "play.A" in st.session_state:  # the widgets keep their values until another page is opened
        return st.session_state["play.opening"]
    address, complaints = st.query_params.to_dict(), []
    if not address:
        address = st.session_state.get("play.address", USUAL)
    elif not address.keys() & {*SLOTS}:
        address = USUAL | address
    specs: dict[str, Spec] = {}
    for slot in SLOTS:
        try:
            if address.get(slot):
                specs[slot] = read_objective(address[slot])
        except ValueError as error:
            complaints.append(str(error))
    try:
        plane = read_plane(address)
    except ValueError as error:
        plane = Plane()
        complaints.append(str(error))
    st.session_state["play.opening"] = specs, plane
    st.session_state["play.seed"] = plane.seed
    for message in complaints:
        st.warning(plain(message))
    return specs, plane


def _objective(slot: str, spec: Spec | None) -> Objective | None:
    """Draw the form of a slot; return its objective, or the last valid one while the form is not valid."""
    names = [*(name for name in FIRST if name in OBJECTIVES), *sorted(set(OBJECTIVES) - {*FIRST})]
    begin = spec["name"] if spec else ""
    with st.expander(f"Objective {slot}", expanded=bool(spec)):
        name = st.selectbox(
            f"Objective {slot}",
            ["", *names],
            index=["", *names].index(begin),
            format_func=lambda n: objective_label(n) if n else "none",
            key=f"play.{slot}",
            label_visibility="collapsed",
            persist_state="page",
        )
        if not name:
            return None
        given = spec if spec and name == begin else {}
        values = knobs(OBJECTIVES[name], {k: v for k, v in given.items() if k != "name"}, f"play.{slot}.{name}")
        try:
            objective = build_objective({"name": name, **values})
        except ValueError as error:
            st.error(plain(str(error)))
            last: Objective | None = st.session_state.get(f"play.{slot}.last")
            if last:
                st.caption("The pictures show the last values that worked.")
            return last
        for message in objective.warnings():
            st.warning(plain(message))
    st.session_state[f"play.{slot}.last"] = objective
    return objective


def _plane(start: Plane) -> Plane:
    """Draw the settings that all objectives share; return the plane, or the last valid one while they are not valid."""
    with st.expander("Plane", expanded=False):
        reach = (-FURTHEST, FURTHEST)
        x1 = _slider("log X₁ (nats), chosen", reach, start.log_x1, 0.5, "x1", "Range of the horizontal axis.")
        x2 = _slider("log X₂ (nats), rejected", reach, start.log_x2, 0.5, "x2", "Range of the vertical axis.")
        lengths, levels = (1, MOST_TOKENS), (LOWEST_REF, 0.0)
        n_w = _slider("Tokens of the chosen answer", lengths, start.tokens[0], 1, "n_w", "Its length, n_w.")
        n_l = _slider("Tokens of the rejected answer", lengths, start.tokens[1], 1, "n_l", "Its length, n_l.")
        level = "The reference's log-prob of each of its tokens; without a reference: the policy's log-prob at log-ratio 0."
        ref_w = _slider("Reference, chosen (nats/token)", levels, start.ref[0], 0.1, "ref_w", level)
        ref_l = _slider("Reference, rejected (nats/token)", levels, start.ref[1], 0.1, "ref_l", level)
        seen = st.toggle(
            "Moving statistics after one batch",
            start.statistics == "this batch",
            key="play.seen",
            help="For objectives with moving statistics, such as α-DPO's mean and std of the gap: their values after one batch, or "
            "before the first step, when α-DPO's z is 0.",
            persist_state="page",
        )
        seed = st.session_state["play.seed"]
        try:
            plane = Plane(x1, x2, (n_w, n_l), (ref_w, ref_l), start.batch, seed, "this batch" if seen else "before the first step")
        except ValueError as error:
            st.error(plain(str(error)))
            return st.session_state.get("play.plane.last", Plane())
    st.session_state["play.plane.last"] = plane
    return plane


def _slider(label: str, limits: tuple[Any, Any], value: Any, step: float, key: str, help_text: str) -> Any:
    return st.slider(label, *limits, value, step, "%g", key=f"play.{key}", help=help_text, persist_state="page")


def _drawn(slot: str, objective: Objective, plane: Plane) -> Shown | None:
    """Return the objective with its landscape; draw the error and return None if it cannot be computed."""
    try:
        return Shown(slot, objective, landscape(objective, plane))
    except Exception as error:  # a registered objective may be user code, which can raise anything
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        st.error(plain(f"{slot} · {objective.name} cannot be drawn: {reason}"))
        return None


def _cards(shown: Sequence[Shown]) -> None:
    """Draw each objective's formula, source and the assumptions of its picture."""
    for cell, one in zip(st.columns(len(shown)), shown):
        with cell, st.container(border=True):
            o = one.objective
            st.markdown(f"**{plain(one.label)}**  {plain(o.title)}")
            if o.formula:
                st.code(o.formula, language=None, wrap_lines=True)
            st.caption(plain(" ".join([f"{o.source}." if o.source else "", *_assumed(one)]).strip()))
            if one.picture.draws:
                _draws(one)


def _assumed(one: Shown) -> list[str]:
    o, notes = one.objective, []
    if o.couples(training=False):
        notes.append(
            f"It compares pairs, so every point is a batch of its own, and {COARSE} × {COARSE} are drawn, not {FINE} × {FINE}."
        )
    if o.needs_alignment:
        notes.append("The pair's weight is taken as 1.")
    if o.degraded_spec() is not None:
        notes.append("Drawn without degraded answers: the landscape is that of the alignment loss.")
    if one.picture.state:
        notes.append(
            "Its moving statistics are "
            + ", ".join(f"{key} = {float(value):.3g}" for key, value in one.picture.state.items())
            + "."
        )
    return notes


def _draws(one: Shown) -> None:
    """Draw the objective's random draws, token by token, and a button that draws again."""
    with st.container(horizontal=True, vertical_alignment="center"):
        for name, values in one.picture.draws.items():
            st.text(f"{name} {_marks(values)}")
        st.button("Draw again", icon=":material/casino:", key=f"play.{one.slot}.draw", on_click=_draw_again)


def _draw_again() -> None:
    st.session_state["play.seed"] += 1


def _marks(values: torch.Tensor) -> str:
    """Format one pair's random draw: a filled square for every drawn token, or the numbers."""
    row = values[0].flatten().tolist()
    return "".join("■" if drawn else "□" for drawn in row) if values.dtype == torch.bool else ", ".join(f"{v:.3g}" for v in row)


def _cuts(shown: Sequence[Shown], plane: Plane) -> None:
    """Draw the losses and gradients of all objectives along one axis."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        direction = st.segmented_control(
            "x axis",
            ["margin", "log X₁", "log X₂"],
            default="margin",
            required=True,
            key="play.along",
            persist_state="page",
            help="The margin log X₁ − log X₂, with both sides moving, or one side alone.",
        )
        held = 0.0
        if direction != "margin":
            other, (low, high) = ("log X₂", plane.log_x2) if direction == "log X₁" else ("log X₁", plane.log_x1)
            held = st.slider(
                f"{other} held at (nats)", low, high, min(max(0.0, low), high), key=f"play.held.{other}.{low}.{high}", width=320
            )
        relative = st.toggle(
            "Each on its own scale",
            key="play.relative",
            help="Divide every objective by its own largest value, to compare shapes.",
            persist_state="page",
        )
    slices = [cut(one.label, along(one.objective, plane, direction, held)) for one in shown]
    for cell, quantity in zip(st.columns(2), ("loss", "push")):
        with cell:
            show(slices_figure(slices, quantity=quantity, relative=relative, dark=dark()), key=f"play-cut-{quantity}")


def _fields(shown: Sequence[Shown], plane: Plane) -> None:
    """Draw two landscapes side by side."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        quantity = st.segmented_control(
            "Colour",
            list(QUANTITIES),
            default="loss",
            required=True,
            format_func=lambda key: QUANTITIES[key].title,
            key="play.quantity",
            persist_state="page",
        )
        pair = list(shown[:2])
        if len(shown) > 2:
            slots = st.segmented_control(
                "Side by side",
                [one.slot for one in shown],
                selection_mode="multi",
                default=[one.slot for one in shown[:2]],
                key="play.pair",
                persist_state="page",
            )
            pair = [one for one in shown if one.slot in slots][:2] or pair
    st.caption(plain(QUANTITIES[quantity].meaning))
    cells = st.columns(2)
    for number, (cell, one) in enumerate(zip(cells, pair)):
        picture = one.picture
        with cell:
            drawn = field_figure(
                picture.data,
                title=f"{one.label}: {QUANTITIES[quantity].symbol}",
                quantity=quantity,
                held=held_fixed(one.objective, plane.tokens) if quantity == "loss" else "",
                dark=dark(),
            )
            show(drawn, key=f"play-field-{number}")


page()
