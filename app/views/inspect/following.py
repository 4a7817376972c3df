"""The Inspect page goes with its run: which step it shows, and a new drawing when the run has seen the opened pair again."""

from __future__ import annotations

import time

import streamlit as st

from app.views.live.refreshed import INTERVAL, SHARE
from lab.run.handle import Run
from lab.store import ENDED

DRAWN = "inspect.drawn-at"
"""In the session: when the page was drawn last, and how many seconds of processor that took."""

TAB = "inspect.tab"
AT_WORK = ("What if", "Virtual step")
"""Tabs beneath which the page is not redrawn by itself, because text is edited there."""


def step(run: Run, shown: int | None, pair: str | None) -> None:
    """Say which step is shown, again every second while the run lives. shown: the moment, or None for the latest.

    Where the latest is shown and the run has seen the opened pair anew, or has ended, the whole page is drawn again; not so often
    that this would hold up a run that trains in this process (see `app.views.live.refreshed.SHARE`).
    """
    live = run.state not in ENDED
    st.fragment(_follow, run_every=INTERVAL if live else None)(run, shown, pair, _known(run, pair), live)


def drawn(began: float) -> None:
    """The whole page has been drawn. began: what `time.thread_time` said before."""
    st.session_state[DRAWN] = (time.monotonic(), time.thread_time() - began)


def _known(run: Run, pair: str | None) -> int:
    """Changes when there is something new to see: how often the pair was seen, or without one the step."""
    return run.step if pair is None else len(run.reader.pairs.steps_of(pair))


def _follow(run: Run, shown: int | None, pair: str | None, known: int, live: bool) -> None:
    last = run.step
    st.text(f"Step {shown:,} of {last:,}" if shown is not None else f"Step {last:,}, the latest")
    if not live or shown is not None or st.session_state.get(TAB) in AT_WORK:
        return
    at, cost = st.session_state.get(DRAWN, (0.0, 0.0))
    if run.state in ENDED or (time.monotonic() - at > cost / SHARE and _known(run, pair) != known):
        st.rerun(scope="app")
