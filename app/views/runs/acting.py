"""Changes of runs by a press: refusals become a message on the page."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.state.access import require_edit
from app.text.plain import plain
from lab.store import RunError

REFUSED = "runs.refused"
"""In the session: why the last change was refused."""
DONE = "runs.done"
"""In the session: what the last change did, shown once."""


def act(change: Callable[[], object], done: str = "") -> None:
    """Make a change; a refusal becomes an error message on the page. Arguments as those of `acted`."""
    acted(change, done)


def acted(change: Callable[[], object], done: str = "") -> bool:
    """Make a change and return whether it was made; a refusal becomes an error message on the page.

    Args:
        change: Changes runs.
        done: A sentence that is shown after success.
    """
    require_edit()
    try:
        change()
    except RunError as error:
        st.session_state[REFUSED] = str(error)
        return False
    if done:
        st.session_state[DONE] = done
    return True


def show_messages() -> None:
    """Draw what the last change did, or why it was refused."""
    if message := st.session_state.pop(REFUSED, ""):
        st.error(plain(message))
    if message := st.session_state.pop(DONE, ""):
        st.toast(plain(message), icon=":material/check:")
