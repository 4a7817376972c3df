"""Runs: list, filter and sort all runs; name, tag, archive and delete them; open them on other pages.

The address of the page holds the filter, the order, the page of the list and the opened run: a reload or a link finds them again.
"""

from __future__ import annotations

import sqlite3

import streamlit as st

from app.pages import INSPECT, LIVE, NEW_RUN
from app.state.access import WHY, may_edit
from app.state.navigation import leave_for
from app.text.plain import plain
from app.text.run_text import count_of
from app.views.runs import filters, listing, opened, ticked_runs, trash
from app.views.runs.acting import show_messages
from app.widgets import shortcuts
from lab.run.listing.index import RunListing, list_runs
from lab.run.listing.query import RunQuery, select
from lab.run.listing.summary import RunSummary
from lab.store import ENDED, RunError

LIVELY, QUIET = 2.0, 5.0
"""Seconds between two drawings of the list while a run trains, and while none does."""


def page() -> None:
    """Draw the whole page."""
    known = list_runs()
    head = st.container(horizontal=True, vertical_alignment="center")
    head.title("Runs", width="content", anchor=False)
    if not may_edit():
        st.info(WHY)
    if not known.runs:
        _nothing_yet(known)
        trash.show_trash()
        return
    with head:
        query = filters.query_bar(known.runs)
    lives = any(run.state not in ENDED for run in known.runs)
    st.fragment(_draw, run_every=LIVELY if lives else QUIET)(query, lives)
    trash.show_trash()


def _draw(query: RunQuery, lived: bool) -> None:
    """Draw the list as it is now. Everything that the browser ticks and opens here is drawn anew without the rest of the page."""
    if st.session_state.pop(filters.REDRAW, False):
        st.rerun(scope="app")  # the bar above shows the order and the filters, too
    known = list_runs()
    if not known.runs or lived != any(run.state not in ENDED for run in known.runs):
        st.rerun(scope="app")  # another interval, or the last run is gone
    try:
        runs = select(known.runs, query)
    except RunError as error:
        st.error(plain(error))
        return
    show_messages()
    with st.container():
        ticked_runs.selection_bar(runs, known.runs)
    name = st.query_params.get("run")
    if name is None:
        _list(known, runs, query)
    else:
        left, right = st.columns([6, 5], gap="medium")
        with left:
            _list(known, runs, query)
        with right:
            opened.show_opened(name, known.runs)
    _keys(name)


def _list(known: RunListing, runs: list[RunSummary], query: RunQuery) -> None:
    if runs:
        listing.show_list(runs, known.runs, query)
    else:
        st.info("No run matches: change the words or a filter. Archived runs are under Filters.")
        st.button("Clear all filters", key="clear", on_click=filters.clear)
    _unreadable(known)


def _unreadable(known: RunListing) -> None:
    """Draw the folders that cannot be listed, with the reason."""
    folders = [run for run in known.unreadable if run.kind != "unstarted"]
    if folders:
        with st.expander(f"{count_of(len(folders), 'folder')} cannot be listed", icon=":material/warning:"):
            for run in folders:
                st.text(run.reason)


def _keys(name: str | None) -> None:
    """Register the keys of the opened run."""

    def press(page_key: str) -> None:
        st.session_state["runs.pressed"] = page_key

    keys = {
        "l": shortcuts.Key("open the run on Live", lambda: press("live")),
        "i": shortcuts.Key("open the run on Inspect", lambda: press("inspect")),
        "Escape": shortcuts.Key("close the opened run", lambda: listing.open_run(None)),
    }
    with st.container(horizontal=True):
        shortcuts.help_button(keys)
        st.caption("In the list: arrows move, Enter opens a run, the space bar ticks it, Shift extends.", width="content")
    shortcuts.bind(keys, key="runs-live-keys")
    pressed = st.session_state.pop("runs.pressed", None)
    if pressed and name:
        leave_for(LIVE if pressed == "live" else INSPECT, {"run": name})


def _nothing_yet(known: RunListing) -> None:
    """Draw the page as it is before the first run."""
    st.write("All runs are listed here, with their state, settings and numbers. Start one, and it appears.")
    st.page_link(NEW_RUN.file, label="Start a run", icon=":material/play_circle:")
    st.caption("From a terminal:")
    st.code("python -m lab train --objective sgdpo", language="bash")
    _unreadable(known)
    _wait_for_first_run()


@st.fragment(run_every="2s")
def _wait_for_first_run() -> None:
    """Draw the page again when a run was started elsewhere."""
    if list_runs().runs:
        st.rerun(scope="app")


try:
    page()
except (RunError, OSError, sqlite3.Error) as error:
    st.error(plain(f"The runs cannot be listed: {error}"))
