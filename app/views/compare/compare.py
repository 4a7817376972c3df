"""Compare: runs side by side (curves, numbers, settings, pairs, answers), and the form that starts twins."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import streamlit as st

import lab
from app.pages import NEW_RUN
from app.state import current_run
from app.state.address import put
from app.state.current_run import label
from app.state.moment import address
from app.text.plain import plain
from app.views.compare import answers, curves, pairs
from app.widgets import save_dialog, twins_form
from lab.comparison import MOST
from lab.run.handle import Run
from lab.store import ENDED, RunError

INTERVAL = 1.0
"""Seconds between two drawings while one of the runs trains."""

CHOSEN = "compare.runs"

PICKED = "compare.picked"
"""In the session: whether the runs were selected explicitly, here or by a link."""
START = "twins"

PARTS = {
    "curves": ("Curves", curves.curves),
    "numbers": ("Numbers", curves.numbers),
    "settings": ("Settings", curves.settings),
    "pairs": ("Pair by pair", pairs.pairs),
    "answers": ("Answers", answers.answers),
}
NAMES = {key: name for key, (name, _) in PARTS.items()} | {START: "Start twins"}


def page() -> None:
    """Draw the whole page."""
    runs = [Run(run.folder, check=False) for run in current_run.offered_runs()]
    if len(runs) < 2:
        _too_few(runs)
        return
    st.title("Compare", anchor=False)
    chosen = choose(runs)
    part = st.segmented_control(
        "Part", list(NAMES), default="curves", required=True, format_func=NAMES.__getitem__, key="part",
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    if part == START:
        twins_form.form(runs, chosen)
        return
    if not chosen:
        st.caption(f"Choose two to {MOST} runs to lay them side by side. Runs that differ only in their seed count as one.")
        return
    live = any(run.state not in ENDED for run in chosen)
    st.fragment(_draw, run_every=INTERVAL if live else None)(chosen, part or "curves", live)
    save_dialog.offer()


def choose(runs: Sequence[Run]) -> list[Run]:
    """Draw the list of runs and return the chosen ones; the address names them.

    At first these are the runs in the address, else those that were compared last, else the two newest, the older first.
    """
    by_name = {run.dir.name: run for run in runs}
    addressed = [name for name in st.query_params.get("runs", "").split(",") if name]
    known = [name for name in addressed if name in by_name]
    if lost := [name for name in addressed if name not in by_name]:
        st.warning(plain(f"There is no run {', '.join(lost)} here (any more)."))
    if CHOSEN not in st.session_state or (known and known != st.session_state.get("compare.address")):
        st.session_state[CHOSEN] = known or _default([*by_name])
        st.session_state[PICKED] = bool(known) or st.session_state.get(PICKED, False)
    st.session_state[CHOSEN] = [name for name in st.session_state[CHOSEN] if name in by_name]
    names = st.multiselect(
        "Runs",
        list(by_name),
        key=CHOSEN,
        format_func=lambda name: label(by_name[name]),
        placeholder=f"Choose two to {MOST} runs, or groups of seeds",
        on_change=lambda: st.session_state.__setitem__(PICKED, True),
    )
    st.session_state["compare.address"] = names
    put(runs=",".join(names) or None)
    return [by_name[name] for name in names]


def _default(names: list[str]) -> list[str]:
    """Return the runs that were compared last, with the one that other pages show; else that one and the newest other.

    names: All runs, the newest first. Of two default runs the older comes first.
    """
    current, picked = st.session_state.get(current_run.CHOSEN), st.session_state.get(PICKED, False)
    before = [name for name in st.session_state.get("compare.address", []) if name in names]
    if (len(before) > 1 or (before and picked)) and (current not in names or current in before):
        return before
    if before and picked:
        return [*before, current]
    first = current if current in names else names[0]
    other = next(name for name in names if name != first)
    return sorted((first, other), key=names.index, reverse=True)


def _draw(runs: Sequence[Run], part: str, were_live: bool) -> None:
    try:
        _drawn(runs, part, were_live)
    except (RunError, OSError, sqlite3.Error) as error:  # deleted or damaged since the last drawing
        st.error(plain(f"The runs cannot be read: {error}"))


def _drawn(runs: Sequence[Run], part: str, were_live: bool) -> None:
    save_dialog.rerun_if_asked()
    states = [run.state for run in runs]
    if were_live and all(state in ENDED for state in states):
        st.rerun(scope="app")  # the last drawing, and no more refreshes
    try:
        comparison = curves.kept(runs)
        comparison.refresh()
    except RunError as error:  # more curves than colours, perhaps because a change has parted a group
        st.warning(plain(error))
        if not curves.is_grouped():  # the legend, which has the switch, is not drawn
            curves.group_switch()
        return
    with st.container():
        curves.legend(comparison, states)
    with st.container():
        pairs.twins_line(comparison)
    with st.container():
        PARTS[part][1](comparison)


def _too_few(runs: Sequence[Run]) -> None:
    """Draw the page as it is before there are two runs."""
    st.title("No run yet" if not runs else "One run yet")
    st.write(
        "Runs are compared here: their curves, numbers, settings, pairs and answers. "
        + ("Train two, or start twins here." if not runs else "Train a second one, or start twins here.")
    )
    st.page_link(NEW_RUN.file, label="Start a run", icon=":material/play_circle:")
    if runs:
        address(runs[0].dir.name)
    st.subheader("Start twins")
    twins_form.form(runs, runs)
    _wait(len(runs))


@st.fragment(run_every="2s")
def _wait(known: int) -> None:
    """Draw the page again when a run was started elsewhere."""
    if len(lab.runs()) > known:
        st.rerun(scope="app")


try:
    page()
except (RunError, OSError, sqlite3.Error) as error:
    st.error(plain(f"The runs cannot be read: {error}"))
