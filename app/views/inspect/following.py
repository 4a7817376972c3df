"""Keep the Inspect page up to date with its run: the step that is shown, and a new drawing after a step with the opened pair."""

from __future__ import annotations

import time

import streamlit as st

from app.state.pacing import INTERVAL, SHARE
from lab.run.handle import Run
from lab.store import ENDED

DRAWN = "inspect.drawn-at"
"""In the session: when the page was drawn last, and the processor seconds that took."""

TAB = "inspect.tab"
AT_WORK = ("What if", "Virtual step")
"""Tabs in which the page is not redrawn by itself, because text is edited there."""


def step(run: Run, shown: int | None, pair: str | None) -> None:
    """Draw the step that is shown, every second while the run trains. shown: that step; None for the latest.

    If the latest is shown, the whole page is drawn again after each step with the opened pair and at the run's end, but not so
    often that it would delay a run that trains in this process (see `app.state.pacing.SHARE`).
    """
    live = run.state not in ENDED
    st.fragment(_follow, run_every=INTERVAL if live else None)(run, shown, pair, _known(run, pair), live)


def drawn(began: float) -> None:
    """Record the cost of a drawing of the whole page. began: `time.thread_time()` at its start."""
    st.session_state[DRAWN] = (time.monotonic(), time.thread_time() - began)


def _known(run: Run, pair: str | None) -> int:
    """Return a number that changes with the page's content: in how many steps the pair was, or without a pair the step."""
    return run.step if pair is None else len(run.reader.pairs.steps_of(pair))


def _follow(run: Run, shown: int | None, pair: str | None, known: int, live: bool) -> None:
    last = run.step
    st.text(f"Step {shown:,} of {last:,}" if shown is not None else f"Step {last:,}, the latest")
    if not live or shown is not None or st.session_state.get(TAB) in AT_WORK:
        return
    at, cost = st.session_state.get(DRAWN, (0.0, 0.0))
    if run.state in ENDED or (time.monotonic() - at > cost / SHARE and _known(run, pair) != known):
        st.rerun(scope="app")
