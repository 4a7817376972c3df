"""Save a figure of a run: all its numbers as CSV or Parquet, or the figure as HTML. PNG is the camera in its bar."""

from __future__ import annotations

import streamlit as st

from app.state.moment import moment
from app.widgets import figure
from app.widgets.save_dialog import OPENING, save_as
from lab.plots import DISTRIBUTION, FIGURES, SCALAR, Record, entry, figure_file
from lab.run.handle import Run

REQUESTED = "saving"
"""In the session: the figure to save; the save dialog is open while it is set."""


def ask_for(name: str) -> None:
    """Open the dialog for a figure at the next drawing of the whole page."""
    st.session_state[REQUESTED] = name
    st.session_state[OPENING] = True


def offer(run: Run) -> None:
    """Draw the dialog if it was requested."""
    st.session_state.pop(OPENING, None)
    if REQUESTED in st.session_state:
        _dialog(run)


def _closed() -> None:
    st.session_state.pop(REQUESTED, None)


@st.dialog("Save a chart", on_dismiss=_closed)
def _dialog(run: Run) -> None:
    until, dark = moment(run.dir.name), figure.dark()
    record = Record(run.reader, until)
    names = [name for name in FIGURES if not name.startswith(DISTRIBUTION)] + [DISTRIBUTION + t for t in record.term_names()]
    names += [SCALAR + scalar for scalar in record.scalar_names("")]
    requested = st.session_state.get(REQUESTED)
    start = names.index(requested) if requested in names else 0
    name = st.selectbox("Chart", names, index=start, format_func=title)
    save_as(
        f"{run.dir.name}-{file_name(name)}",
        lambda kind: figure_file(Record(run.reader, until), name, kind, dark),
        f"Up to step {until:,}, which is shown." if until is not None else "Up to the latest step.",
    )


def title(name: str) -> str:
    """Return the title of a figure."""
    if name.startswith(SCALAR):
        return f"Curve: {name.removeprefix(SCALAR)}"
    return f"Spread: {entry(name.removeprefix(DISTRIBUTION)).title}" if name.startswith(DISTRIBUTION) else FIGURES[name].title


def file_name(name: str) -> str:
    """Return a figure's name as part of a file name."""
    return name.replace(":", "-").replace("/", "-")
