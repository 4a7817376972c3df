"""One page of a list of pairs: rows that are opened, ticked and sorted by mouse or keyboard, with the search's hits marked.

`st.dataframe` can neither mark a hit nor keep ticked rows while the list is sorted or a pair is opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import streamlit as st

CSS = """
.lab-pairs {overflow-x: auto; color: var(--st-text-color); font-size: 0.875rem;}
.lab-pairs table {width: 100%; table-layout: fixed; border-collapse: collapse; margin: 0;}
.lab-pairs th, .lab-pairs td {border: 0; border-bottom: 1px solid var(--st-border-color); padding: 0.22rem 0.5rem; text-align: left;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; color: inherit; height: 1.75rem; line-height: 1.25;}
.lab-pairs th {font-weight: 600; background: var(--st-secondary-background-color); position: sticky; top: 0;}
.lab-pairs th button {font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; max-width: 100%;
  overflow: hidden; text-overflow: ellipsis;}
.lab-pairs th button:hover {color: var(--st-primary-color);}
.lab-pairs .tick {width: 2.1rem; padding-right: 0;}
.lab-pairs .number {text-align: right; font-variant-numeric: tabular-nums;}
.lab-pairs tbody tr {cursor: pointer;}
.lab-pairs tbody tr:hover {background: var(--st-secondary-background-color);}
.lab-pairs tbody tr.ticked {background: color-mix(in srgb, var(--st-primary-color) 12%, transparent);}
.lab-pairs tbody tr.opened {box-shadow: inset 4px 0 0 var(--st-primary-color); font-weight: 600;}
.lab-pairs tbody tr:focus-visible, .lab-pairs button:focus-visible {outline: 2px solid var(--st-primary-color);
  outline-offset: -2px;}
.lab-pairs mark {background: #f2c14e88; color: inherit; border-radius: 2px;}
"""

_mount = st.components.v2.component(
    "lab_pairs",
    html='<div class="lab-pairs"></div>',
    css=CSS,
    js=(Path(__file__).parent / "pair_rows.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Column:
    """A column of the list.

    Attributes:
        title: Its heading.
        kind: "text" (as wide as there is room), "state" or "number".
        sort: Name that is reported when the heading is pressed; None where the list cannot be sorted by the column.
        width: A CSS length; None shares the room that is left.
        help: A sentence shown over the heading.
    """

    title: str
    kind: Literal["text", "state", "number"] = "text"
    sort: str | None = None
    width: str | None = None
    help: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: its text on one line, the places of the search's hits in it, and the longer text shown under the mouse."""

    text: str
    hits: list[tuple[int, int]] = field(default_factory=list)
    whole: str = ""


@dataclass(frozen=True)
class Row:
    """A row: the pair's id and one cell per column."""

    id: str
    cells: list[Cell]


def show_rows(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    key: str,
    label: str,
    opened: str | None,
    ticked: Sequence[str],
    sort: str,
    descending: bool,
    on_open: Callable[[str], None],
    on_tick: Callable[[list[str], list[str]], None],
    on_sort: Callable[[str], None],
) -> None:
    """Draw a page of pairs.

    Args:
        rows: The pairs of the page.
        columns: The columns, one per cell of every row.
        key: Key of the widget.
        label: Name of the list for screen readers.
        opened: Id of the opened pair.
        ticked: Ids of the ticked pairs of this page.
        sort: Name by which the list is sorted.
        descending: Whether the largest come first.
        on_open: Called with the id of a row that was clicked, or on which Enter was pressed.
        on_tick: Called with the ids of the page and with those of them that are ticked.
        on_sort: Called with the name of the column whose heading was pressed.
    """
    _mount(
        key=key,
        data=payload(rows, columns, label=label, opened=opened, ticked=ticked, sort=sort, descending=descending),
        on_opened_change=lambda: _tell(key, "opened", on_open),
        on_sorted_change=lambda: _tell(key, "sorted", on_sort),
        on_ticked_change=lambda: _tell(key, "ticked", lambda value: on_tick(list(value["page"]), list(value["ids"]))),
    )


def payload(rows: Sequence[Row], columns: Sequence[Column], **more: Any) -> bytes:
    """Return what the browser receives, as JSON in UTF-8."""
    return json.dumps({"rows": [asdict(row) for row in rows], "columns": [asdict(column) for column in columns], **more}).encode()


def _tell(key: str, event: str, listener: Callable[[Any], None]) -> None:
    state = st.session_state.get(key)  # absent where the set vanished while its list was on the screen
    value = state[event] if state is not None else None
    if value is not None:
        listener(value)
