"""The runs of an experiment as a table: a row per variant, a column per seed, a button per run that shows its state."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st

CSS = """
.lab-grid {overflow-x: auto; color: var(--st-text-color); font-size: 0.875rem; padding-bottom: 0.25rem;}
.lab-grid table {border-collapse: separate; border-spacing: 2px; margin: 0;}
.lab-grid th, .lab-grid td {border: 0; padding: 0; color: inherit; text-align: center; font-variant-numeric: tabular-nums;}
.lab-grid thead th {font-weight: 600; padding: 0.1rem 0.3rem; white-space: nowrap;}
.lab-grid th:first-child {position: sticky; left: 0; background: var(--st-background-color); text-align: left; font-weight: 600;
  padding-right: 0.75rem; min-width: 9rem; max-width: 22rem; overflow-wrap: anywhere; z-index: 1;}
.lab-grid button {font: inherit; color: inherit; width: 100%; min-width: 3.6rem; height: 1.9rem; padding: 0 0.35rem;
  cursor: pointer;  border: 1px solid color-mix(in srgb, var(--tone) 55%, transparent); border-radius: 4px; white-space: nowrap;
  background: linear-gradient(90deg, color-mix(in srgb, var(--tone) 30%, transparent) var(--share),
    color-mix(in srgb, var(--tone) 8%, transparent) var(--share));}
.lab-grid button:hover {border-color: var(--tone);}
.lab-grid button.opened {outline: 2px solid var(--st-primary-color); outline-offset: -1px; font-weight: 600;}
.lab-grid button:focus-visible {outline: 3px solid var(--st-primary-color); outline-offset: -1px;}
"""

_mount = st.components.v2.component(
    "lab_run_grid",
    html='<div class="lab-grid"></div>',
    css=CSS,
    js=(Path(__file__).parent / "run_grid.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Cell:
    """A run in the table.

    Attributes:
        key: Key of the run.
        text: Its state in few letters.
        whole: Variant, seed and state in words, shown under the mouse and read by screen readers.
        tone: Colour, as Streamlit names it.
        share: Share of its steps that are done, in [0, 1]: the filled part of the cell.
    """

    key: str
    text: str
    whole: str
    tone: str
    share: float


@dataclass(frozen=True)
class Row:
    """A variant with its runs, one per seed."""

    name: str
    cells: list[Cell]


def show_grid(
    rows: Sequence[Row], seeds: Sequence[int], *, key: str, label: str, opened: str | None, on_open: Callable[[str], None]
) -> None:
    """Draw the table, or update the one that was drawn under this key.

    Args:
        rows: The variants.
        seeds: The seeds, one per cell of every row.
        key: Key of the widget.
        label: Name of the table for screen readers.
        opened: Key of the run whose details are shown.
        on_open: Called with the key of a run that was pressed.
    """
    content: dict[str, Any] = {"rows": [asdict(row) for row in rows], "seeds": [f"seed {seed}" for seed in seeds]}
    data = json.dumps(content | {"label": label, "opened": opened}).encode()
    _mount(key=key, data=data, on_opened_change=lambda: _tell(key, on_open))


def _tell(key: str, listener: Callable[[str], None]) -> None:
    value = (st.session_state.get(key) or {}).get("opened")
    if value is not None:
        listener(str(value))
