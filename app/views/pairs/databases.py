"""Sets in a PostgreSQL database: open one by its address, and take one off the list."""

from __future__ import annotations

import streamlit as st

from app.state import pair_sets
from app.views.pairs.filters import open_set
from app.widgets.pairs.acting import act
from lab.pairs import is_url
from lab.pairs.addresses import holds_password

ADDRESS = "databases.address"


def popover(location: str | None) -> None:
    """Draw the field for an address, and a button that takes the set at `location`, if it is in a database, off the list."""
    with st.popover("Database", icon=":material/database:", help="Open a set that a team keeps in a PostgreSQL database."):
        st.text_input(
            "Address",
            key=ADDRESS,
            placeholder="postgresql://user@host/database?set=name",
            help="Without a password: that belongs into ~/.pgpass or PGPASSWORD of the process that runs the lab.",
        )
        st.button("Open this address", key="databases.open", type="primary", on_click=_open)
        if location is not None and is_url(location):
            st.code(location, language=None, wrap_lines=True)
            st.button(
                "Take this set off the list",
                key="databases.unlist",
                on_click=_unlist,
                args=(location,),
                help="The set stays in its database, and its address opens it again.",
            )


def _open() -> None:
    address = st.session_state[ADDRESS]
    key = act(lambda: pair_sets.list_database(address))
    if key is not None or holds_password(address):
        st.session_state[ADDRESS] = ""  # a password does not stay in the page
    if key is not None:
        open_set(key)


def _unlist(location: str) -> None:
    act(lambda: pair_sets.unlist_database(location))
    open_set(None)
