"""Experiments: declare grids of runs, follow their progress, and read their results with intervals.

The address holds what is shown: `experiment=NAME` with `view=` (its part), `new=yes` for the form, `new=yes&from=NAME` for the
form filled with an existing declaration; without any of them the list.
"""

from __future__ import annotations

import sqlite3

import streamlit as st

from app.text.plain import plain
from app.views.experiments import acting, deleting, form, listing, opened
from lab.store import RunError


def page() -> None:
    """Draw the part of the page that the address names."""
    deleting.leave_if_changed()
    acting.show_done()
    name = st.query_params.get("experiment")
    if "new" in st.query_params:
        form.page()
    elif name is not None:
        opened.page(name)
    else:
        listing.page()


try:
    page()
except (RunError, OSError, sqlite3.Error) as error:
    st.error(plain(f"The experiments cannot be read: {error}"))
