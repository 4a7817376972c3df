"""What the Live page says of a run that waits for its device: its place, who is before it, and buttons that change the order."""

from __future__ import annotations

import streamlit as st

import lab
from app.text.plain import plain
from lab.run.handle import Run
from lab.store import RunError


@st.fragment(run_every=1.0)
def waiting(run: Run) -> None:
    """Draw the queue that the run waits in; nothing if it waits in none."""
    place = run.place
    if place is None or place.place == 0:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.text(f"Queued: {place.message}.")
        first = st.button(
            "Train next", icon=":material/vertical_align_top:", disabled=place.place == 1, help="Put it before all that wait."
        )
        remove = st.button("Remove", icon=":material/playlist_remove:", help="Take the run out of the queue; Resume puts it back.")
    line = [f"{other.place or 'trains'}  {other.run.name}" for other in lab.queue() if other.device == place.device]
    st.code("\n".join(line), language=None)
    try:
        if first:
            run.move(1)
        if remove:
            run.stop()
    except RunError as error:  # its turn came, or it ended, between the drawing and the click
        st.caption(plain(str(error)))
        return
    if first or remove:
        st.rerun(scope="app")
