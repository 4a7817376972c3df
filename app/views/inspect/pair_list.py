"""The list of a run's pairs, searched and sorted by any term, with their values at the step that is shown.

However many pairs there are, they are read and sorted on the server and a page of them is sent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.state.address import put
from app.state.current_run import opened_pair, remember_pair
from app.text.plain import one_line
from app.text.run_text import meaning, pair_annotations
from lab.pairs import Pair, PairsError, PairStore, prompt_text
from lab.plots import entry
from lab.run.handle import Run
from lab.store import ENDED
from lab.store.terms import MARGIN, with_margin

SHEET = 6
"""Pairs on one page of the list."""
EXCERPT = 90
KINDS = {"Trained on": "pairs", "Held out": "held_out"}
NOT_TERMS = ("pair", "step", "version")
ALWAYS = (MARGIN, "loss", "log_ratio_chosen", "log_ratio_rejected")
"""Columns of the list besides the term that it is sorted by, if the run has them."""
HEADS = {MARGIN: "Margin", "loss": "Loss", "log_ratio_chosen": "Log-ratio chosen", "log_ratio_rejected": "Log-ratio rejected"}
"""Short column titles; other terms use their titles from the glossary. Symbol and unit are in the help text."""
DRAWN = "inspect.drawn"
"""In the session: key of the table that was drawn last."""
STORE = "inspect.store"
"""In the session: path of the store whose pairs the list shows."""
FRESH, PATIENCE = 5.0, 20.0
"""A live run's list is read again after FRESH seconds, or after PATIENCE times the duration of the last reading."""


@dataclass(frozen=True)
class Listed:
    """The list as it is sorted.

    Attributes:
        ids: Ids of all pairs in the list, [n] of str.
        place: Index of the opened pair; None if it is not in the list.
    """

    ids: np.ndarray
    place: int | None

    @property
    def before(self) -> str | None:
        """The pair before the opened one."""
        return str(self.ids[self.place - 1]) if self.place else None

    @property
    def after(self) -> str | None:
        """The pair after the opened one; the first if the opened one is not in the list."""
        following = 0 if self.place is None else self.place + 1
        return str(self.ids[following]) if following < len(self.ids) else None


def show(run: Run, store: PairStore | None, step: int | None) -> Listed:
    """Draw the list and return it; the opened pair is in the address (`pair`). step: the shown step; None for the latest."""
    one, two, three, four = st.columns([3, 3, 3, 2], vertical_alignment="bottom")
    search = one.text_input("Search", key="inspect.search", placeholder="id, or text of prompt or answer", type="search")
    kind = two.segmented_control("Pairs", list(KINDS), default="Trained on", required=True, key="inspect.kind") or "Trained on"
    frame = _frame(run, KINDS[kind], step)
    terms = [name for name in (MARGIN, *frame.columns) if name in frame and name not in NOT_TERMS]
    terms = list(dict.fromkeys(terms))
    by = three.selectbox("Sort by", ["pair", *terms], index=1 if MARGIN in terms else 0, format_func=_title, key="inspect.by")
    falling = four.toggle("Largest first", key="inspect.falling")
    rows = _matching(frame, store, search or "")
    rows = rows.sort_values(by, ascending=not falling, kind="stable", na_position="last") if len(rows) else rows
    ids = rows["pair"].to_numpy(object)
    opened = st.query_params.get("pair")
    place = st.session_state[STORE] = str(run.manifest["pairs_store"])
    if opened is None and len(ids):
        before = opened_pair(place)
        opened = before if before is not None and (ids == before).any() else str(ids[0])
        put(pair=opened)
    if opened is not None and (frame["pair"] == opened).any():
        remember_pair(place, opened)
    places = np.flatnonzero(ids == opened)
    listed = Listed(ids, int(places[0]) if len(places) else None)
    _sheet(rows, listed, store, by, f"{run.dir.name}.{kind}.{search}.{by}.{falling}")
    return listed


def open_pair(id: str | None) -> None:
    """Open a pair of the same run, from the next drawing on."""
    if id is not None:
        put(pair=id)
        if STORE in st.session_state:  # now: a click on another page may interrupt the next drawing
            remember_pair(st.session_state[STORE], id)


def _title(name: str) -> str:
    return "id" if name == "pair" else entry(name).title


def _frame(run: Run, kind: str, step: int | None) -> pd.DataFrame:
    """Return the terms of all pairs; cached in the session for a time."""
    kept: dict[str, Any] = st.session_state.setdefault("inspect.frame", {})
    now, key = time.monotonic(), (run.dir, kind, step, run.step if step is None and run.state in ENDED else None)
    if kept.get("key") == key:
        age = now - kept["time"]
        if step is not None or run.state in ENDED or age < max(FRESH, PATIENCE * kept["cost"]):
            return kept["frame"]
    frame = with_margin(run.pairs(step) if kind == "pairs" else run.held_out(step))
    kept.update(key=key, time=now, cost=time.monotonic() - now, frame=frame)
    return frame


def _matching(frame: pd.DataFrame, store: PairStore | None, search: str) -> pd.DataFrame:
    if not search.strip() or frame.empty:
        return frame
    mask = frame["pair"].str.contains(search.strip(), regex=False)
    if store is not None:
        mask |= frame["pair"].isin(store.find(search))
    return frame[mask]


def _sheet(rows: pd.DataFrame, listed: Listed, store: PairStore | None, by: str, key: str) -> None:
    """Draw the page of the list that contains the opened pair, unless another page was selected."""
    sheets = max(1, -(-len(rows) // SHEET))
    at = (listed.place or 0) // SHEET + 1
    turned = st.session_state.get("inspect.turned")  # (the list, the opened pair, the page that was turned to)
    here = (key, st.query_params.get("pair"))
    sheet = min(turned[1], sheets) if turned and turned[0] == here else at
    part = rows.iloc[(sheet - 1) * SHEET : sheet * SHEET]
    columns = [name for name in dict.fromkeys((by, *ALWAYS)) if name in part and name != "pair"]
    table = part[["pair", "step", "version", *columns]].copy()
    pairs = [_text(store, id, int(version)) for id, version in zip(part["pair"], part["version"])]
    if any(pair is not None and pair_annotations(pair) for pair in pairs):
        table["annotated"] = ["" if pair is None else ", ".join(pair_annotations(pair)) for pair in pairs]
    table["prompt"] = ["" if pair is None else one_line(prompt_text(pair.prompt)[:EXCERPT]) for pair in pairs]
    inside = (listed.place - (sheet - 1) * SHEET) if listed.place is not None else -1
    chosen = [inside] if 0 <= inside < len(part) else []
    widget = f"inspect.table.{hash((key, sheet, here[1], tuple(part['step'])))}"
    texts = {
        "pair": ("Pair", "The pair's id."),
        "step": ("Step", "Latest step whose batch contained the pair."),
        "version": ("Version", "Version of the pair's text at that step."),
        "annotated": ("Annotated", "Weight where it is not 1, and degree, as the run used them at that step."),
    }
    config: dict[str, Any] = {name: st.column_config.TextColumn(title, help=help) for name, (title, help) in texts.items()}
    config |= {
        name: st.column_config.NumberColumn(HEADS.get(name, entry(name).title), help=_help(name), format="%.4g") for name in columns
    }
    config["prompt"] = st.column_config.TextColumn("Prompt", width="large")
    if not len(rows):
        st.caption("No pair was seen yet at this step." if not len(listed.ids) else "")
        return
    st.session_state[DRAWN] = widget
    st.dataframe(
        table,
        hide_index=True,
        height=38 + 35 * SHEET,
        on_select=lambda: _clicked(widget, [str(id) for id in part["pair"]], inside),
        selection_mode=["single-row", "single-cell"],
        selection_default={"selection": {"rows": chosen}},
        key=widget,
        column_config=config,
    )
    left, right = st.columns([7, 5], vertical_alignment="center")
    with left:
        pages = f"inspect.sheet.{hash((key, sheet, sheets))}"
        st.pagination(sheets, default=sheet, key=pages, on_change=_turn, args=(pages, here))
    right.caption(f"{len(rows):,} pairs", text_alignment="right")


def _help(name: str) -> str:
    return f"{entry(name).title}, {meaning(name)}"


def _text(store: PairStore | None, id: str, version: int) -> Pair | None:
    """Return a version of a pair; None if the store has no such version."""
    try:
        return None if store is None else store.get(id, version)
    except PairsError:
        return None


def _turn(widget: str, here: tuple[str, str | None]) -> None:
    st.session_state["inspect.turned"] = (here, st.session_state[widget])


def _clicked(widget: str, ids: list[str], marked: int) -> None:
    """Open the pair of the clicked row. marked: the row that was drawn as selected, or -1.

    A browser also reports the selection that a table was drawn with, possibly when the page already shows another pair or step.
    That is no click and must not open the former pair.
    """
    chosen = st.session_state[widget]["selection"]
    rows = [row for row, _ in chosen["cells"]] or chosen["rows"]
    if rows and rows[0] != marked and widget == st.session_state.get(DRAWN):
        open_pair(ids[rows[0]])
