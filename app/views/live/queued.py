"""The Live page's view of a queued run: its place, the runs before it, and buttons that change the order."""

from __future__ import annotations

import streamlit as st

import lab
from app.state.access import may_edit, require_edit
from app.text.plain import plain
from lab.run.handle import Run
from lab.store import RunError


@st.fragment(run_every=1.0)
def waiting(run: Run) -> None:
    """Draw the device's queue if the run waits in one."""
    place = run.place
    if place is None or place.place == 0:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.text(f"Queued: {place.message}.")
        locked = not may_edit()
        first = st.button(
            "Train next",
            icon=":material/vertical_align_top:",
            disabled=locked or place.place == 1,
            help="Put the run before all others.",
        )
        remove = st.button(
            "Remove",
            icon=":material/playlist_remove:",
            disabled=locked,
            help="Take the run out of the queue; Resume puts it back.",
        )
    line = [f"{other.place or 'trains'}  {other.run.name}" for other in lab.queue() if other.device == place.device]
    st.code("\n".join(line), language=None)
    try:
        if first or remove:
            require_edit()
        if first:
            run.move(1)
        if remove:
            run.stop()
    except RunError as error:  # it started or ended between the drawing and the click
        st.caption(plain(str(error)))
        return
    if first or remove:
        st.rerun(scope="app")
