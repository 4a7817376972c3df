"""Live: one run while it trains, or as it ended, with its state, its figures and the buttons that control it."""

from __future__ import annotations

import sqlite3

import streamlit as st

import lab
from app.pages import NEW_RUN
from app.state.current_run import choose, offered_runs
from app.text.plain import plain
from app.views.live import change_and_branch, controls, export_form, save_figure
from app.views.live.queued import waiting
from app.views.live.refresh import watch
from lab.run.handle import Run
from lab.store import RunError


def page() -> None:
    """Draw the whole page."""
    runs = offered_runs()
    if not runs:
        nothing_yet()
        return
    left, right = st.columns([10, 24], vertical_alignment="bottom", gap="small")
    with left:
        run = choose(runs)
    state = run.state
    # One container for all of them: they wrap where the window is narrow.
    with right, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"):
        message = controls.buttons(run, state)
        forms = more(run, state)
        panel = st.pills("More", forms, key="live-panel", label_visibility="collapsed", width="content") if forms else None
    with st.container():  # always present, so that the elements below keep their place, and the figures their zoom
        if message:
            st.caption(plain(message))
        controls.continuing(run)
        controls.notices(run, state)
        if state == "queued":
            waiting(run)
    change_and_branch.section(run, state, panel)
    export_form.section(run, panel)
    watch(run, state)
    save_figure.offer(run)


def more(run: Run, state: str) -> list[str]:
    """List the forms that can be opened above the figures."""
    return change_and_branch.panels(run, state) + export_form.panels(run)


def nothing_yet() -> None:
    """Draw the page as it is before the first run."""
    st.title("No run yet")
    st.write("A run trains a model on preference pairs and is shown here while it trains. Start one, and its curves appear.")
    st.page_link(NEW_RUN.file, label="Start a run", icon=":material/play_circle:")
    st.caption("From a terminal:")
    st.code("python -m lab train --objective sgdpo", language="bash")
    wait_for_first_run()


@st.fragment(run_every="2s")
def wait_for_first_run() -> None:
    """Draw the page again when a run was started elsewhere."""
    if lab.runs():
        st.rerun(scope="app")


try:
    page()
except (RunError, OSError, sqlite3.Error) as error:
    st.error(plain(f"The run cannot be read: {error}"))
