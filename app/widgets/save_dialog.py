"""The dialog that saves a figure: all its numbers as CSV or Parquet, or the figure as HTML. PNG is the camera in its bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.text.plain import plain
from app.widgets import figure
from lab.plots import FORMATS, as_file

REQUESTED = "saving-picture"
"""In the session: the picture to save; the save dialog is open while it is set."""
OPENING = "saving-picture-opens"
"""In the session: the dialog was requested, and the whole page has not been drawn since."""

MIME = {"CSV": "text/csv", "Parquet": "application/vnd.apache.parquet", "HTML": "text/html"}
DESCRIPTIONS = {
    "CSV": "Every recorded number behind the chart, whole, as text.",
    "Parquet": "Every recorded number, smaller and with types, for pandas, DuckDB and others.",
    "HTML": "The picture as a page that works offline: zoom, hover, hidden traces. The camera in the chart's bar makes a PNG.",
}


@dataclass(frozen=True)
class Picture:
    """A figure that can be saved.

    Attributes:
        title: Its title.
        file: Name of its files, without their ending.
        drawn: Draws the figure.
        data: Reads every number behind it.
        caption: Description of the numbers.
    """

    title: str
    file: str
    drawn: Callable[[], go.Figure]
    data: Callable[[], pd.DataFrame]
    caption: str = ""


def chart(
    drawn: go.Figure,
    key: str,
    *,
    title: str,
    file: str,
    data: Callable[[], pd.DataFrame],
    caption: str = "",
    on_click: Callable[[figure.Event], None] | None = None,
    saved: Callable[[], go.Figure] | None = None,
) -> None:
    """Draw a figure whose bar has a button that opens the dialog.

    Args:
        drawn: The figure.
        key: See `app.widgets.figure.show`.
        title: See `Picture`.
        file: See `Picture`.
        data: See `Picture`.
        caption: See `Picture`.
        on_click: See `app.widgets.figure.show`.
        saved: Draws the figure that is saved; None for the same one. It has a legend where the page draws one for several figures.
    """
    picture = Picture(title, file, saved or (lambda: drawn), data, caption)
    figure.show(drawn, key=key, name=file, on_click=on_click, on_save=lambda _: ask_for(picture))


def ask_for(picture: Picture) -> None:
    """Open the dialog at the next drawing of the whole page."""
    st.session_state[REQUESTED] = picture
    st.session_state[OPENING] = True


def rerun_if_asked() -> None:
    """Within a fragment: draw the whole page again, with the dialog, if it was requested."""
    if st.session_state.pop(OPENING, False):
        st.rerun(scope="app")


def offer() -> None:
    """Draw the dialog if it was requested."""
    st.session_state.pop(OPENING, None)
    if REQUESTED in st.session_state:
        _dialog(st.session_state[REQUESTED])


def _closed() -> None:
    st.session_state.pop(REQUESTED, None)


@st.dialog("Save a chart", on_dismiss=_closed)
def _dialog(picture: Picture) -> None:
    st.text(picture.title)
    dark = figure.dark()
    save_as(picture.file, lambda kind: as_file(kind, picture.data, picture.drawn, dark), picture.caption)


def save_as(file: str, make: Callable[[str], bytes], caption: str) -> None:
    """Draw the choice of a format and the button.

    Args:
        file: Name of the file, without its ending.
        make: Makes the file of a format.
        caption: What is saved.
    """
    kind = st.radio("As", FORMATS, captions=[DESCRIPTIONS[kind] for kind in FORMATS])
    if caption:
        st.caption(plain(caption))
    name = f"{file}.{kind.lower()}"
    st.download_button("Save", lambda: make(kind), file_name=name, mime=MIME[kind], icon=":material/download:", on_click="ignore")
    st.caption(plain(name))
