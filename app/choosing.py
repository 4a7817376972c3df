"""Which run a page shows: the one in the address, else the one that was chosen on another page, else the newest live one, else the
newest."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.moment import address, moment
from app.plain import plain
from lab.monitor import ENDED
from lab.run import Run

CHOSEN = "chosen-run"
"""In the session: folder name of the run that a page showed last. (A widget's own state ends with its page.)"""


def choose(runs: Sequence[Run]) -> Run:
    """A list of the runs; the address follows the choice."""
    by_name = {run.dir.name: run for run in runs}
    asked = st.query_params.get("run")
    if st.session_state.get("run") not in by_name:
        if asked is not None and asked not in by_name:
            st.warning(plain(f"There is no run {asked} here (any more); this is the latest one."))
        newest_live = next((run for run in runs if run.state not in ENDED), runs[0]).dir.name
        wanted = asked if asked is not None else st.session_state.get(CHOSEN)
        st.session_state["run"] = wanted if wanted in by_name else newest_live
    name = st.selectbox(
        "Run",
        list(by_name),
        key="run",
        format_func=lambda key: label(by_name[key]),
        on_change=_other_run,
        label_visibility="collapsed",
    )
    st.session_state[CHOSEN] = name
    moment(name)  # before the address says this run: a step in it is that of another one
    if st.query_params.get("run") != name:
        st.query_params["run"] = name
        address(name)
    return by_name[name]


def _other_run() -> None:
    """A pair and a step of one run mean nothing in another."""
    for name in ("pair", "step"):
        st.query_params.pop(name, None)


def label(run: Run) -> str:
    """A run on a line of the list: its name and, where that does not say it, its folder."""
    return run.name if run.name == run.dir.name else f"{run.name} ({run.dir.name})"
