"""Figures of a run on the page: built only if their data changed; a click goes to a step or opens a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from app.state import pacing
from app.state.moment import go_to
from app.state.shared import shared
from app.views.live import save_figure
from app.widgets import figure
from lab.plots import Record, run_parts
from lab.plots.style import is_step_axis

OPEN_PAIR = "open-pair"
"""In the session: the pair whose point was clicked, until the page is left for it."""

Parts = Mapping[str, Any]
Draw = Callable[[], Parts]


def row(record: Record, names: Sequence[str], columns: int = 3) -> None:
    """Draw figures side by side."""
    for start in range(0, len(names), columns):
        cells = st.columns(columns)
        for cell, name in zip(cells, names[start : start + columns]):
            with cell:
                chart(record, name)


def chart(record: Record, name: str, *, draw: Draw | None = None, depends: object = None, opens: bool = False) -> None:
    """Draw one figure of a run. A click goes to the step on the x axis, or opens the pair of the point.

    Args:
        record: The run.
        name: Name of the figure.
        draw: Builds the figure, in place of `run_parts`.
        depends: What the figure depends on besides the record and the theme.
        opens: Whether its points are pairs.
    """
    run, dark = record.reader.folder.name, figure.dark()
    kept: dict[str, tuple[Any, bytes]] = st.session_state.setdefault("charts", {})
    stamp = (record.reader.folder, record.version, dark, depends)

    def build() -> bytes:
        parts = draw() if draw is not None else run_parts(record, name, dark)
        listens = opens or is_step_axis(parts["layout"].get("xaxis", {}))
        return figure.payload(parts, figure.script_url(), f"{run}-{save_figure.file_name(name)}", listens=listens, saves=True)

    built = kept.get(name)
    if built is None or built[0] != stamp:
        _, until, last_event = record.version  # an event, such as the end of the run, is in no figure that was built before it
        key = ("figure", record.reader.folder, name, until, last_event, dark, depends)
        built = kept[name] = (stamp, shared(key, build, pacing.CLASS_SHARING))

    def click(event: figure.Event) -> None:
        if opens:
            if event["custom"]:
                st.session_state[OPEN_PAIR] = str(event["custom"][0])
        else:
            go_to(run, max(0, round(float(event["x"]))))

    figure.show(built[1], key=f"figure-{name}", on_click=click, on_save=lambda _: save_figure.ask_for(name))
