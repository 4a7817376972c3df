"""The name under which this browser changes pairs."""

from __future__ import annotations

import streamlit as st

KEY = "author"
"""In the session: the name that was typed; a lab for a class has one per browser."""


def author() -> str | None:
    """Return the name typed in this browser; None for the lab's own (`lab.home.author`)."""
    name = str(st.session_state.get(KEY, "")).strip()
    return name or None


def author_field(default: str) -> None:
    """Draw the field for the name. default: the lab's own name, shown where nothing was typed."""
    typed = st.text_input(
        "Your name",
        value=st.session_state.get(KEY, ""),
        placeholder=default,
        max_chars=80,
        help="Stands beside every change that you make. Undo takes back your own changes only.",
    )
    st.session_state[KEY] = typed
