"""Charts of a run on the page: built only when there is something new to see, clicked to go to a step or to open a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from app.state.moment import go_to
from app.views.live import save_figure
from app.widgets import figure
from lab.plots import Record, run_parts
from lab.plots.style import is_step_axis

OPEN_PAIR = "open-pair"
"""In the session: the pair whose point was clicked, until the page has gone there."""

Parts = Mapping[str, Any]
Draw = Callable[[], Parts]


def row(record: Record, names: Sequence[str], columns: int = 3) -> None:
    """Charts side by side."""
    for start in range(0, len(names), columns):
        cells = st.columns(columns)
        for cell, name in zip(cells, names[start : start + columns]):
            with cell:
                chart(record, name)


def chart(record: Record, name: str, *, draw: Draw | None = None, depends: object = None, opens: bool = False) -> None:
    """One figure of a run. A click goes to that step, where steps go to the right, or opens that pair.

    draw: makes the figure where `run_parts` does not.   depends: what it depends on beside the record and the theme.
    opens: whether its points are pairs.
    """
    run, dark = record.reader.folder.name, figure.dark()
    kept: dict[str, tuple[Any, bytes]] = st.session_state.setdefault("charts", {})
    stamp = (record.reader.folder, record.version, dark, depends)
    found = kept.get(name)
    if found is None or found[0] != stamp:
        parts = draw() if draw is not None else run_parts(record, name, dark)
        listens = opens or is_step_axis(parts["layout"].get("xaxis", {}))
        data = figure.payload(parts, figure.script_url(), f"{run}-{save_figure.file_name(name)}", listens=listens, saves=True)
        found = kept[name] = (stamp, data)

    def click(event: figure.Event) -> None:
        if opens:
            if event["custom"]:
                st.session_state[OPEN_PAIR] = str(event["custom"][0])
        else:
            go_to(run, max(0, round(float(event["x"]))))

    figure.show(found[1], key=f"figure-{name}", on_click=click, on_save=lambda _: save_figure.ask_for(name))
