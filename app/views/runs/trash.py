"""The trash: deleted runs, which can be restored until it is emptied."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime

import streamlit as st

from app.state.access import may_edit
from app.text.plain import plain
from app.text.run_text import count_of
from app.views.runs.acting import act
from lab.run.listing.trash import TrashedRun, disk_bytes, empty_trash, trashed_runs
from lab.run.preflight_report import size


def show_trash() -> None:
    """Draw the deleted runs, if there are any."""
    runs = trashed_runs()
    if not runs:
        return
    if not st.toggle(f"Trash: {count_of(len(runs), 'deleted run')}", key="trash"):
        return
    names = {run.folder.name: run for run in runs}
    with st.container(horizontal=True, vertical_alignment="bottom", border=True):
        chosen = st.multiselect("Deleted runs", list(names), key="trash.chosen", format_func=lambda name: _label(names[name]))
        st.button(
            "Restore",
            icon=":material/restore_from_trash:",
            disabled=not chosen or not may_edit(),
            on_click=_restore,
            args=([names[name] for name in chosen],),
        )
        st.button(
            f"Empty the trash ({size(disk_bytes([run.folder for run in runs]))})",
            icon=":material/delete_forever:",
            disabled=not may_edit(),
            on_click=_empty,
            args=(runs,),
            help="Delete these runs for good. This cannot be taken back.",
        )


def _label(run: TrashedRun) -> str:
    when = ""
    with contextlib.suppress(ValueError):
        when = f", deleted {datetime.fromisoformat(run.time):%-d %b, %H:%M}" if run.time else ""
    return plain(f"{run.name}{when}{f' by {run.author}' if run.author else ''}")


def _restore(runs: Sequence[TrashedRun]) -> None:
    act(lambda: [run.restore() for run in runs], f"{count_of(len(runs), 'run')} restored.")


def _empty(runs: Sequence[TrashedRun]) -> None:
    act(lambda: empty_trash(runs), f"{count_of(len(runs), 'run')} deleted for good.")
