"""One page of a list of pairs, runs or experiments: rows that are opened, ticked and sorted by mouse or keyboard.

`st.dataframe` can neither mark a search's hits, nor sort all pages of a list, nor keep ticked rows while a row is opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import streamlit as st

CSS = """
.lab-rows {overflow-x: auto; container-type: inline-size; color: var(--st-text-color); font-size: 0.875rem;}
.lab-rows table {width: 100%; table-layout: fixed; border-collapse: collapse; margin: 0;}
.lab-rows th, .lab-rows td {border: 0; border-bottom: 1px solid var(--st-border-color); padding: 0.22rem 0.5rem; text-align: left;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; color: inherit; height: 1.75rem; line-height: 1.25;}
.lab-rows th {font-weight: 600; background: var(--st-secondary-background-color); position: sticky; top: 0;}
.lab-rows th button {font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; max-width: 100%;
  overflow: hidden; text-overflow: ellipsis;}
.lab-rows th button:hover {color: var(--st-primary-color);}
.lab-rows th {vertical-align: bottom;}
.lab-rows th.number, .lab-rows th.curve {white-space: normal; line-height: 1.15;}
.lab-rows th.number button {text-align: right;}
.lab-rows .tick {width: 2.1rem; padding-right: 0;}
.lab-rows .number {text-align: right; font-variant-numeric: tabular-nums;}
.lab-rows tbody tr {cursor: pointer;}
.lab-rows tbody tr:hover {background: var(--st-secondary-background-color);}
.lab-rows tbody tr.ticked {background: color-mix(in srgb, var(--st-primary-color) 12%, transparent);}
.lab-rows tbody tr.opened {box-shadow: inset 4px 0 0 var(--st-primary-color); font-weight: 600;}
.lab-rows tbody tr:focus-visible, .lab-rows button:focus-visible {outline: 2px solid var(--st-primary-color);
  outline-offset: -2px;}
.lab-rows tbody tr.heading {background: var(--st-secondary-background-color); font-weight: 600;}
.lab-rows tr.heading td {overflow: visible;}
.lab-rows td.curve {padding-top: 0.1rem; padding-bottom: 0.1rem;}
.lab-rows svg {display: block; width: 100%; height: 1.5rem; overflow: visible;}
.lab-rows polyline {stroke: var(--st-primary-color); fill: none; stroke-width: 1.5px; vector-effect: non-scaling-stroke;}
.lab-rows .tone::before {content: ""; display: inline-block; width: 0.6em; height: 0.6em; border-radius: 50%; margin-right: 0.4em;
  background: var(--tone);}
@container (max-width: 94rem) {.lab-rows .room-94 {display: none;}}
@container (max-width: 78rem) {.lab-rows .room-78 {display: none;}}
@container (max-width: 70rem) {.lab-rows .room-70 {display: none;}}
@container (max-width: 62rem) {.lab-rows .room-62 {display: none;}}
@container (max-width: 46rem) {.lab-rows .room-46 {display: none;}}
@container (max-width: 32rem) {.lab-rows .room-32 {display: none;}}
.lab-rows mark {background: #f2c14e88; color: inherit; border-radius: 2px;}
"""

_mount = st.components.v2.component(
    "lab_rows",
    html='<div class="lab-rows"></div>',
    css=CSS,
    js=(Path(__file__).parent / "row_list.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


Room = Literal[0, 32, 46, 62, 70, 78, 94]


@dataclass(frozen=True)
class Column:
    """A column of the list.

    Attributes:
        title: Its heading.
        kind: "text" (as wide as there is room), "state", "number" or "curve".
        sort: Name that is reported when the heading is pressed; None where the list cannot be sorted by the column.
        width: A CSS length; None shares the room that is left.
        help: A sentence shown over the heading.
        room: Width of the whole list, in rem, from which the column is shown: 0 (always), 32, 46, 62, 70, 78 or 94.
    """

    title: str
    kind: Literal["text", "state", "number", "curve"] = "text"
    sort: str | None = None
    width: str | None = None
    help: str = ""
    room: Room = 0


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: Its text on one line.
        hits: Places of the search's hits in the text.
        whole: The longer text shown under the mouse.
        tone: Colour of a dot before the text, as Streamlit names it; "" for none.
        curve: (steps, values) of a tiny curve, drawn in place of the text.
    """

    text: str
    hits: list[tuple[int, int]] = field(default_factory=list)
    whole: str = ""
    tone: str = ""
    curve: tuple[list[int], list[float | None]] | None = None


@dataclass(frozen=True)
class Row:
    """A row: an id and one cell per column; of a heading, one cell that reaches over all of them."""

    id: str
    cells: list[Cell]
    heading: bool = False


def show_rows(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    key: str,
    label: str,
    noun: str,
    opened: str | None,
    sort: str,
    descending: bool,
    on_open: Callable[[str], None],
    on_sort: Callable[[str], None],
    ticked: Sequence[str] = (),
    on_tick: Callable[[list[str], list[str]], None] | None = None,
) -> None:
    """Draw a page of a list.

    Args:
        rows: The rows of the page.
        columns: The columns, one per cell of every row.
        key: Key of the widget.
        label: Name of the list for screen readers.
        noun: "pair", "run" or "experiment": what a row is, for screen readers.
        opened: Id of the opened row.
        sort: Name by which the list is sorted.
        descending: Whether the largest come first.
        on_open: Called with the id of a row that was clicked, or on which Enter was pressed.
        on_sort: Called with the name of the column whose heading was pressed.
        ticked: Ids of the ticked rows of this page.
        on_tick: Called with the ids of the page and with those of them that are ticked; None for rows that cannot be ticked.
    """
    _mount(
        key=key,
        data=payload(
            rows,
            columns,
            label=label,
            noun=noun,
            opened=opened,
            ticked=ticked,
            turn=st.session_state.get(f"{key}.turn", 0),
            sort=sort,
            descending=descending,
            ticks=on_tick is not None,
        ),
        on_opened_change=lambda: _tell(key, "opened", on_open),
        on_sorted_change=lambda: _tell(key, "sorted", on_sort),
        on_ticked_change=lambda: None if on_tick is None else _tell(key, "ticked", lambda value: _ticked(key, value, on_tick)),
    )


def _ticked(key: str, value: Any, on_tick: Callable[[list[str], list[str]], None]) -> None:
    """Handle ticks. Their number is sent back, so that the browser knows which of its ticks a drawing already contains."""
    st.session_state[f"{key}.turn"] = int(value["turn"])
    on_tick(list(value["page"]), list(value["ids"]))


def payload(rows: Sequence[Row], columns: Sequence[Column], **more: Any) -> bytes:
    """Return what the browser receives, as JSON in UTF-8."""
    return json.dumps({"rows": [asdict(row) for row in rows], "columns": [asdict(column) for column in columns], **more}).encode()


def _tell(key: str, event: str, listener: Callable[[Any], None]) -> None:
    state = st.session_state.get(key)  # absent where the set vanished while its list was on the screen
    value = state[event] if state is not None else None
    if value is not None:
        listener(value)
