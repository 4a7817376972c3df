"""The runs that train on a pair set: when they take edits of it, and whether they use the weights and degrees of its pairs."""

from __future__ import annotations

import streamlit as st

import lab
from app.state.objective_in_use import annotations_in_use
from app.text.plain import plain
from app.text.run_text import taking_edits
from lab.pairs import PairStore

LIVE = ("running", "paused", "queued")
MOST = 3
"""Runs that are described, the newest first."""


def show_runs(store: PairStore) -> None:
    """Draw one line for each run that trains on a set: what becomes of an edit of a pair, of its weight and of its degree."""
    runs = [run for run in lab.runs(states=LIVE) if str(run.manifest["pairs_store"]) == str(store.location)]
    for run in runs[:MOST]:
        st.caption(
            plain(f"Run {run.name} {taking_edits(run.pairs_setting, paused=run.state == 'paused')} {annotations_in_use(run, None)}")
        )
    if len(runs) > MOST:
        st.caption(f"{len(runs) - MOST:,} more runs train on this set.")
