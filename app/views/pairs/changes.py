"""Changes of the set: who did what when."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import streamlit as st

from app.state.author import author_field
from lab import home
from lab.pairs import PairStore

LATEST = 200
"""Log entries that are shown."""


def show_changes(store: PairStore) -> None:
    """Draw the author and the log."""
    left, right = st.columns([5, 4], gap="large")
    with left:
        _log(store)
    with right:
        author_field(home.author())


def _log(store: PairStore) -> None:
    st.subheader("History of the set")
    entries = store.log(since=max(0, store.version - LATEST))
    if not entries:
        st.info("Nothing was changed since the import. Every edit, swap and drop will stand here, with its author.")
        return
    rows = [
        {
            "Version": entry.number,
            "Time": datetime.fromtimestamp(entry.time),
            "Author": entry.author,
            "Change": entry.action,
            "Pair": entry.pair_id,
            "Reason": entry.reason,
        }
        for entry in reversed(entries)
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=320,
        column_config={"Time": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm:ss")},
    )
    if store.version > LATEST:
        st.caption(f"The latest {LATEST} of {store.version:,} changes.")
