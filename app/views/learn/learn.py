"""Learn: preference losses on a point to drag, as formulas with numbers, on a small batch, on real tokens and on a real model."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.state.learn.learn_address import VIEWS, LearnState, read_state, write_state
from app.text.plain import plain
from app.views.learn import batch_view, curves_view, degrees_view, field_view, model_steps, pilots_view, settings, story_panel
from app.views.learn.shown import Shown
from app.widgets.figure import dark
from lab.teaching import cell_source

STATE, OPENING, GENERATION, WRITTEN = "learn.state", "learn.opening", "learn.generation", "learn.written"
"""In the session: the page's state; its state when the widgets were made, the number of their set, and the address last written."""

BODY = "learn.body"
"""Key of the fragment that holds everything that depends on the settings."""

PROJECTOR = """<style>
html, :root {font-size: 21px !important;}
[data-testid="stMain"] {line-height: 1.5;}
[data-testid="stMainBlockContainer"] {padding-left: 1.5rem; padding-right: 1.5rem;}
[data-testid="stMain"] [data-testid="stWidgetLabel"] *, [data-testid="stRadio"] label * {font-size: 1rem !important;}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {font-size: 1rem !important; color: inherit !important;}
</style>"""


def page() -> None:
    """Draw the whole page."""
    complaints = _open()
    opening: LearnState = st.session_state[OPENING]
    prefix = f"learn.{st.session_state[GENERATION]}"
    with st.sidebar:
        settings.draw(opening, prefix, BODY)
    _heading(opening, prefix)
    for message in complaints:
        st.warning(plain(message))
    _body(prefix)


def _open() -> list[str]:
    """Take the state from the address where a link was followed, else from the last visit; return what is wrong in the address."""
    address = st.query_params.to_dict()
    generation = st.session_state.get(GENERATION, 0)
    drawn = f"learn.{generation}.A" in st.session_state  # the widgets keep their values until another page is opened
    complaints: list[str] = []
    if STATE in st.session_state and address in ({}, st.session_state.get(WRITTEN)):
        if drawn:
            return []
        state = st.session_state[STATE]
    else:
        state, complaints = read_state(address)
        if state.story:
            state, more = story_panel.resumed(state, address)
            complaints += more
    _restart(state)
    return complaints


def _restart(state: LearnState) -> None:
    """Make a new set of widgets that begin with this state."""
    st.session_state[STATE] = st.session_state[OPENING] = state
    st.session_state[GENERATION] = st.session_state.get(GENERATION, 0) + 1


def apply(state: LearnState) -> None:
    """Show another state with new widgets, from a widget's callback."""
    _restart(state)
    st.session_state[WRITTEN] = write_state(state)
    st.query_params.from_dict(st.session_state[WRITTEN])
    st.rerun()  # the whole page, also from inside a fragment


def _keep(state: LearnState) -> None:
    """Store the state in the session and in the address."""
    st.session_state[STATE] = state
    address = write_state(state)
    if st.session_state.get(WRITTEN) != address or st.query_params.to_dict() != address:
        st.session_state[WRITTEN] = address
        st.query_params.from_dict(address)


def _heading(opening: LearnState, prefix: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Learn", width="content")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            story_panel.choice(st.session_state[STATE], apply)
            st.toggle(
                "Projector",
                opening.projector,
                key=f"{prefix}.projector",
                help="Large type, thick lines and strong contrast.",
                persist_state="page",
            )
            st.button(
                "Reset", icon=":material/restart_alt:", key="learn.reset", help="Begin again with DPO and SGDPO.", on_click=_reset
            )


def _copy(state: LearnState) -> None:
    """Draw the source of a notebook cell with the same picture."""
    st.caption("A notebook cell that draws this picture with the library:")
    objectives = list(settings.built(state).values())
    if not objectives:
        st.caption("Choose an objective first.")
        return
    st.code(cell_source(objectives, state.plane, quantity=state.quantity, point=state.point, rate=state.rate), language="python")


def _reset() -> None:
    apply(LearnState(projector=st.session_state[STATE].projector))


@st.fragment(key=BODY)
def _body(prefix: str) -> None:
    """Draw everything that depends on the settings; drawn without the rest of the page when a setting or a view changes."""
    opening: LearnState = st.session_state[OPENING]
    state = settings.current(st.session_state[STATE], prefix)
    state = replace(state, projector=bool(st.session_state.get(f"{prefix}.projector")))
    if state.projector:
        st.html(PROJECTOR)
    story = st.container()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        view = st.segmented_control(
            "View",
            list(VIEWS),
            default=opening.view,
            required=True,
            format_func=lambda name: VIEWS[name],
            key=f"{prefix}.view",
            label_visibility="collapsed",
            persist_state="page",
            width="content",
        )
        copy = st.popover("Copy", icon=":material/content_copy:", help="This picture in a notebook")
    state = replace(state, view=view)
    st.session_state[STATE] = state
    state = _view(state, opening, prefix)
    with story:
        story_panel.draw(state, apply)  # after the view, which may have moved away from the step
    with copy:
        _copy(state)
    _keep(state)


def _view(state: LearnState, opening: LearnState, prefix: str) -> LearnState:
    """Draw the view; return the state after it."""
    if state.view == "degrees":
        return degrees_view.draw(state, opening, prefix)
    shown = [Shown(slot, objective) for slot, objective in settings.built(state).items()]
    if not shown:
        st.info("Choose an objective on the left; its field, formula and numbers appear here.")
        return state
    if state.view == "model":
        model_steps.draw([(one.label, one.objective) for one in shown], dark=dark())
        return state
    if state.view == "curves":
        return curves_view.draw(shown, state, opening, prefix)
    if state.view == "batch":
        return batch_view.draw(shown, state, opening, prefix)
    if state.view == "pilots":
        return pilots_view.draw(shown, state, prefix)
    return field_view.draw(shown, state, prefix)


page()
