"""Time travel: the step of a run that Live and Inspect show.

It is kept in the session, from page to page, and in the address (`step=`), for links.
"""

from __future__ import annotations

import streamlit as st

from app.state.address import put

MOMENTS = "moments"
"""In the session: the earlier step that is shown, by folder name of the run."""

ADDRESSED = "moments.addressed"
"""In the session: the step in the address when it was read last, by folder name of the run."""


def moment(run: str) -> int | None:
    """Return the step of a run (its folder's name) that is shown; None for the latest."""
    moments: dict[str, int | None] = st.session_state.setdefault(MOMENTS, {})
    here = st.query_params.get("run") == run
    addressed = st.query_params.get("step", "") if here else ""
    if addressed != _addressed().get(run, ""):
        _addressed()[run] = addressed
        if here:  # a link or the browser's Back; otherwise a new page, whose address is still empty
            moments[run] = int(addressed) if addressed.isdecimal() and len(addressed) < 16 else None
    return moments.setdefault(run, None)


def _addressed() -> dict[str, str]:
    known: dict[str, str] = st.session_state.setdefault(ADDRESSED, {})
    return known


def go_to(run: str, step: int | None, *, passing: bool = False) -> None:
    """Show another step of a run from the next drawing on.

    Args:
        run: Name of the run's folder.
        step: The step; None for the latest.
        passing: True while time is played: the address, each change of which enters the browser's history, stays.
    """
    st.session_state.setdefault(MOMENTS, {})[run] = step
    if not passing:
        address(run)


def address(run: str, **more: str | None) -> None:
    """Write a run and its shown step into the address. more: further parameters, as in `app.state.address.put`."""
    step = st.session_state.get(MOMENTS, {}).get(run)
    _addressed()[run] = "" if step is None else str(step)
    put(run=run, step=None if step is None else str(step), **more)
