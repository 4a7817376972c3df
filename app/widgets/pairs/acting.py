"""Changes of a pair set by a press: refusals become a message, and the page says what Undo would take back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from app.state.access import require_edit
from app.text.plain import plain
from lab.pairs import PairsError

REFUSED = "pairs.refused"
"""In the session: why the last change was refused."""
DONE = "pairs.done"
"""In the session: what the last change did, shown once."""

T = TypeVar("T")


def act(change: Callable[[], T], done: str = "") -> T | None:
    """Make a change; a refusal becomes an error message on the page.

    Args:
        change: Changes the store.
        done: A sentence that is shown after success.
    """
    require_edit()
    try:
        result = change()
    except PairsError as error:
        st.session_state[REFUSED] = str(error)[:1].upper() + str(error)[1:]
        return None
    if done:
        st.session_state[DONE] = done
    return result


def act_or_redraw(change: Callable[[], T], done: str = "") -> T:
    """Make a change outside of a callback; a refusal draws the page again, because its messages stand above.

    Args:
        change: Changes the store, and returns something.
        done: A sentence that is shown after success.
    """
    result = act(change, done)
    if result is None:
        st.rerun()
    return result


def show_messages() -> None:
    """Draw what the last change did, or why it was refused."""
    if message := st.session_state.pop(REFUSED, ""):
        st.error(plain(message))
    if message := st.session_state.pop(DONE, ""):
        st.toast(plain(message), icon=":material/check:")
