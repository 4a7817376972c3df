"""Time travel: the step of a run that the pages show. Every panel of Live and Inspect asks here, and the address carries it.

Kept in the session, so that going from page to page keeps the moment, and in the address (`step=`), so that a link does.
"""

from __future__ import annotations

import streamlit as st

from app.state.address import put

MOMENTS = "moments"
"""In the session: folder name of a run -> the earlier step that is shown."""

ADDRESSED = "moments.addressed"
"""In the session: folder name of a run -> the step that the address said when it was last looked at."""


def moment(run: str) -> int | None:
    """The step of a run (its folder's name) that is shown; None: the latest, whatever that is."""
    moments: dict[str, int | None] = st.session_state.setdefault(MOMENTS, {})
    here = st.query_params.get("run") == run
    asked = st.query_params.get("step", "") if here else ""
    if asked != _addressed().get(run, ""):
        _addressed()[run] = asked
        if here:  # a link, or the browser's way back; else another page has begun, whose address says nothing yet
            moments[run] = int(asked) if asked.isdecimal() and len(asked) < 16 else None
    return moments.setdefault(run, None)


def _addressed() -> dict[str, str]:
    known: dict[str, str] = st.session_state.setdefault(ADDRESSED, {})
    return known


def go_to(run: str, step: int | None, *, passing: bool = False) -> None:
    """Show another step of a run from the next drawing on; None: the latest.

    passing: on the way somewhere, as while time is played; the address, whose every change the browser remembers, stays.
    """
    st.session_state.setdefault(MOMENTS, {})[run] = step
    if not passing:
        address(run)


def address(run: str, **more: str | None) -> None:
    """Let the address say the run and the step of it that is shown. more: further parameters, as in `app.state.address.put`."""
    step = st.session_state.get(MOMENTS, {}).get(run)
    _addressed()[run] = "" if step is None else str(step)
    put(run=run, step=None if step is None else str(step), **more)
