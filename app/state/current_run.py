"""Which run a page shows: the one in the address, else the one that was chosen on another page, else the newest live one, else the
newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app.state.moment import address, moment
from app.text.plain import plain
from lab.run.handle import Run
from lab.store import ENDED

CHOSEN = "chosen-run"
"""In the session: folder name of the run that a page showed last. (A widget's own state ends with its page.)"""

ADDRESSED = "chosen-run.addressed"
"""In the session: the run that the address said when a page was drawn last."""

OPENED = "opened-pairs"
"""In the session: path of a pair store -> the pair that was opened last."""


def choose(runs: Sequence[Run]) -> Run:
    """A list of the runs; the address follows the choice, and the choice follows a link or the browser's Back."""
    by_name = {run.dir.name: run for run in runs}
    asked = st.query_params.get("run")
    place = 0
    if (before := st.session_state.get("run")) not in by_name or (asked is not None and asked != st.session_state.get(ADDRESSED)):
        st.session_state["run"] = _wanted(by_name, asked)
    else:  # the value of another page's list can still be read here, but this page's list begins with its default
        place = list(by_name).index(before)
    name = st.selectbox(
        "Run",
        list(by_name),
        place,
        key="run",
        format_func=lambda key: label(by_name[key]),
        on_change=_other_run,
        label_visibility="collapsed",
    )
    st.session_state[CHOSEN] = st.session_state[ADDRESSED] = name
    moment(name)  # before the address says this run: a step in it is that of another one
    if asked is None:
        address(name)
    elif asked != name:
        address(name, pair=None)  # it is a pair of another run
    return by_name[name]


def _wanted(by_name: Mapping[str, Run], asked: str | None) -> str:
    """The run in the address, else the one chosen before, else the latest; says so where the first is not there."""
    before = st.session_state.get(CHOSEN)
    wanted = before if asked is None else asked
    if wanted in by_name:
        return str(wanted)
    states = {name: run.state for name, run in by_name.items()}
    trains = [name for name, state in states.items() if state == "running"]
    lives = [name for name, state in states.items() if state not in ENDED]
    newest = [*trains, *lives, *by_name][0]
    if wanted is not None:
        st.warning(plain(f"There is no run {wanted} here (any more); this is the latest one."))
    return newest


def _other_run() -> None:
    """A pair and a step of one run mean nothing in another."""
    name = st.session_state["run"]
    st.session_state[ADDRESSED] = name
    address(name, pair=None)


def opened_pair(store: str) -> str | None:
    """The pair of a store (its path) that was opened last in this session, on whichever page."""
    pair: str | None = st.session_state.get(OPENED, {}).get(store)
    return pair


def remember_pair(store: str, pair: str | None) -> None:
    """Keep which pair of a store is opened, for other pages; None: none is."""
    st.session_state.setdefault(OPENED, {})[store] = pair


def label(run: Run) -> str:
    """A run on a line of the list: its name and, where that does not say it, its folder."""
    return run.name if run.name == run.dir.name else f"{run.name} ({run.dir.name})"
