"""The run that a page shows: the one in the address, else the one chosen on another page, else the newest that trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app.pages import RUNS
from app.state.moment import address, moment
from app.state.navigation import leave_for
from app.text.plain import one_line, plain
from lab.run.handle import Run
from lab.run.listing.index import list_runs
from lab.run.listing.summary import RunSummary
from lab.store import ENDED

CHOSEN = "chosen-run"
"""In the session: folder name of the run that a page showed last. A widget's own state ends with its page."""

ADDRESSED = "chosen-run.addressed"
"""In the session: the run in the address when a page was drawn last."""

OPENED = "opened-pairs"
"""In the session: the pair that was opened last, by path of the pair store."""


def offered_runs() -> list[RunSummary]:
    """Return the runs that a page offers, newest first: those that are not archived, and those that the address names."""
    addressed = {st.query_params.get("run"), *st.query_params.get("runs", "").split(",")}
    return [run for run in list_runs().runs if not run.labels.archived or run.folder.name in addressed]


def choose(runs: Sequence[RunSummary]) -> Run:
    """Draw a list of the runs and return the chosen one. List and address follow each other."""
    by_name = {run.folder.name: run for run in runs}
    addressed = st.query_params.get("run")
    place, followed = 0, addressed is not None and addressed != st.session_state.get(ADDRESSED)
    if (before := st.session_state.get("run")) not in by_name or followed:
        st.session_state["run"] = _wanted(by_name, addressed)
    else:  # this page's list begins with its default, although the value of another page's list can be read here
        place = list(by_name).index(before)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        name = st.selectbox(
            "Run",
            list(by_name),
            place,
            key="run",
            format_func=lambda key: label(by_name[key]),
            on_change=_other_run,
            label_visibility="collapsed",
        )
        if st.button("All runs", icon=f":material/{RUNS.icon}:", type="tertiary", help="Filter and sort all runs."):
            leave_for(RUNS, {})
    st.session_state[CHOSEN] = st.session_state[ADDRESSED] = name
    moment(name)  # before this run is in the address: a step there belongs to another run
    if addressed is None:
        address(name)
    elif addressed != name:
        address(name, pair=None)  # it is a pair of another run
    return Run(by_name[name].folder)


def _wanted(by_name: Mapping[str, RunSummary], addressed: str | None) -> str:
    """Return the run in the address, else the one chosen before, else the latest, with a warning if the first does not exist."""
    before = st.session_state.get(CHOSEN)
    wanted = before if addressed is None else addressed
    if wanted in by_name:
        return str(wanted)
    trains = [name for name, run in by_name.items() if run.state == "running"]
    lives = [name for name, run in by_name.items() if run.state not in ENDED]
    newest = [*trains, *lives, *by_name][0]
    if wanted is not None:
        st.warning(plain(f"There is no run {wanted} here (any more); this is the latest one."))
    return newest


def _other_run() -> None:
    """Remove pair and step from the address: they belong to the former run."""
    name = st.session_state["run"]
    st.session_state[ADDRESSED] = name
    address(name, pair=None)


def opened_pair(store: str) -> str | None:
    """Return the pair of a store (its path) that was opened last in this session, on any page."""
    pair: str | None = st.session_state.get(OPENED, {}).get(store)
    return pair


def remember_pair(store: str, pair: str | None) -> None:
    """Remember the opened pair of a store for other pages; None for no pair."""
    st.session_state.setdefault(OPENED, {})[store] = pair


def label(run: Run | RunSummary) -> str:
    """Return a run's name, and its folder's name if that differs."""
    name, folder = run.name, run.folder.name
    return one_line(name if name == folder else f"{name} ({folder})")
