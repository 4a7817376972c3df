"""Pairs: a searchable list of a pair set, and one pair opened side by side, to edit, swap or drop.

The address of the page holds the set, the search and the opened pair (by its id), so a reload or a link finds them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import lab
from app.state import pair_sets
from app.state.access import WHY, may_edit, require_edit
from app.state.address import put
from app.state.current_run import CHOSEN, opened_pair, remember_pair
from app.state.jobs import require
from app.text.plain import plain
from app.widgets.pair_view import displayable, show
from lab.pairs import Edit, Pair, PairQuery, PairsError, PairStore, answer_text, prompt_text

SHEET = 25
"""Pairs on one page of the list."""
EXCERPT = 160
"""Most characters of a text in the list."""
WIDTHS: dict[str, Any] = {"State": 80, "Prompt": 280, "Chosen": 360, "Rejected": 360}
FILTERS = {"All": "current", "Edited": "edited", "Dropped": "dropped"}
NOUNS = {"edit": "edit", "swap": "swap", "drop": "dropping", "restore": "restoring", "add": "adding"}

T = TypeVar("T")


def page() -> None:
    """Draw the whole page."""
    st.title("Pairs")
    if not may_edit():
        st.info(WHY)
    place, *filters = st.columns([3, 3, 2], vertical_alignment="bottom")
    stored = pair_sets.stored_sets()
    entered = "pairs" not in st.query_params  # by the menu, whose address says nothing
    wanted = st.query_params.get("pairs", _set_of_the_run(stored))
    with place:
        key = _choose_set([pair_sets.WORLD, *stored], wanted)
    if key is None:
        st.error(plain(f"There is no pair set {wanted} here; choose another one."))
        return
    store = _open(key, stored)
    if store is None:
        return
    if entered:
        put(pairs=key, pair=st.query_params.get("pair", opened_pair(store.location)))
    listed = _list(store, *filters)
    if message := st.session_state.pop("pairs.refused", ""):
        st.error(plain(message))
    if message := _would(store.next_undo(), "takes back"):
        st.caption(plain(message), text_alignment="right")
    opened = st.query_params.get("pair")
    if opened is None:
        st.info("Click a line of the list to open that pair.")
        return
    try:
        pair = store.get(opened)
    except PairsError as error:
        st.error(plain(error))
        return
    remember_pair(store.location, opened)
    _pair_actions(store, pair, listed)
    show(store, pair, _act)


def _set_of_the_run(stored: dict[str, Path]) -> str:
    """Return the pair set of the run that other pages show, or the embedded world without such a run or set."""
    name = st.session_state.get(CHOSEN)
    run = next((run for run in lab.runs() if run.dir.name == name), None) if name else None
    file = Path(run.manifest["pairs_store"]).name if run and run.manifest["config"]["pairs"] != pair_sets.WORLD else pair_sets.WORLD
    return file if file in stored else pair_sets.WORLD


def _choose_set(keys: list[str], wanted: str) -> str | None:
    """Draw a list of the pair sets; return the chosen one, or None if the address names an unknown one."""
    widget = f"set.{wanted}"
    index = keys.index(wanted) if wanted in keys else None
    chosen: str | None = st.selectbox(
        "Pair set", keys, index=index, format_func=pair_sets.label, key=widget, on_change=_change_set, args=(widget,)
    )
    return chosen


def _open(key: str, stored: dict[str, Path]) -> PairStore | None:
    """Return the store of a pair set, building the embedded world if needed; draw the error and return None if that fails."""
    if key == pair_sets.WORLD:
        return require(pair_sets.world_job(), retry=pair_sets.forget_failed_world).store
    try:
        return PairStore(stored[key])
    except PairsError as error:
        st.error(plain(error))
        return None


def _change_set(widget: str) -> None:
    put(pairs=st.session_state[widget], pair=None, sheet=None)


def _first_sheet() -> None:
    put(sheet=None)


@dataclass(frozen=True)
class Listed:
    """The page of the list that is shown.

    Attributes:
        ids: The pairs on the page.
        sheet: Number of the page, from 1.
        before: The pair before the first of them, or None.
        after: The pair after the last of them, or None.
    """

    ids: list[str]
    sheet: int
    before: str | None
    after: str | None


def _list(store: PairStore, one: DeltaGenerator, other: DeltaGenerator) -> Listed:
    """Draw the search, the list, its page numbers and the actions on the whole set; return the page that is shown."""
    search = one.text_input(
        "Search",
        key="search",
        bind="query-params",
        on_change=_first_sheet,
        placeholder="a text in the prompt or an answer",
        type="search",
    )
    chosen = other.segmented_control(
        "Show", list(FILTERS), default="All", required=True, key="show", bind="query-params", on_change=_first_sheet
    )
    only: Any = FILTERS[chosen or "All"]
    query = PairQuery(search or "", only, sort="position" if only == "current" else "recent")
    total = store.count(query)
    sheets = max(1, -(-total // SHEET))
    wanted = st.query_params.get("sheet", "1")
    sheet = min(int(wanted), sheets) if wanted.isdecimal() and len(wanted) < 16 and int(wanted) else 1
    first = (sheet - 1) * SHEET
    pairs, _ = store.page(query, max(0, first - 1), SHEET + (2 if first else 1))
    before = pairs.pop(0).id if first and pairs else None
    listed = Listed([pair.id for pair in pairs[:SHEET]], sheet, before, pairs[SHEET].id if len(pairs) > SHEET else None)
    st.text(_count_words(store, total, search or "", only))
    _table(store, pairs[:SHEET], listed, key=f"{store.location}.{search}.{only}.{sheet}.{store.version}")
    pages, actions = st.columns([7, 5], vertical_alignment="center")
    with pages:
        # The address holds the page; the widget is recreated for each page.
        st.pagination(sheets, default=sheet, key=(key := f"sheet.{sheet}.{sheets}"), on_change=_turn, args=(key,))
    with actions:
        _set_actions(store)
    return listed


def _turn(widget: str) -> None:
    put(sheet=str(st.session_state[widget]))


def _table(store: PairStore, pairs: list[Pair], listed: Listed, key: str) -> None:
    """Draw a table with one row per pair; a click opens the pair."""
    opened = st.query_params.get("pair")
    row = listed.ids.index(opened) if opened in listed.ids else None
    if row is not None:
        st.session_state["pairs.row"] = row
    # Another list, or a pair opened by a button, is another table, so that every selection is a click.
    table = f"table.{hash((key, opened))}"
    st.dataframe(
        pd.DataFrame([_line(pair) for pair in pairs], columns=["State", "Prompt", "Chosen", "Rejected"]),
        hide_index=True,
        height=250,
        on_select=lambda: _open_row(table, listed.ids, store.location),
        selection_mode=["single-row", "single-cell"],
        selection_default={"selection": {"rows": [] if row is None else [row]}},
        key=table,
        column_config={name: st.column_config.TextColumn(width=width) for name, width in WIDTHS.items()},
    )


def _line(pair: Pair) -> list[str]:
    state = "dropped" if pair.dropped else f"version {pair.version}" if pair.version > 1 else ""
    return [state, *(_excerpt(text) for text in (prompt_text(pair.prompt), answer_text(pair.chosen), answer_text(pair.rejected)))]


def _excerpt(text: str) -> str:
    return " ".join(displayable(text[:EXCERPT]).split())


def _count_words(store: PairStore, total: int, search: str, only: str) -> str:
    kind = "" if only == "current" else f"{only} "
    count = f"{total:,} {kind}{'pair' if total == 1 else 'pairs'}"
    return f"{count} with this text, of {len(store):,}" if search else count


def _open_row(table: str, ids: list[str], store: str) -> None:
    chosen = st.session_state[table]["selection"]
    rows = [row for row, _ in chosen["cells"]] or chosen["rows"]  # a click on a text, or on the box before it
    put(pair=ids[rows[0]] if rows else None)
    if not rows:
        remember_pair(store, None)


def _set_actions(store: PairStore) -> None:
    """Draw Undo and Redo of the whole set, with what they would do, and Export."""
    done, undone = store.next_undo(), store.next_redo()
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button(
            "Undo",
            icon=":material/undo:",
            disabled=not done or not may_edit(),
            shortcut="U",
            on_click=_step,
            args=(store.undo,),
            help=_would(done, "takes back"),
        )
        st.button(
            "Redo",
            icon=":material/redo:",
            disabled=not undone or not may_edit(),
            shortcut="Y",
            on_click=_step,
            args=(store.redo,),
            help=_would(undone, "repeats"),
        )
        st.download_button(
            "Export",
            data=lambda: pair_sets.exported(store),
            file_name=f"{store.name}.jsonl",
            mime="application/jsonl",
            icon=":material/download:",
            on_click="ignore",
            help="The pairs with their edits, as JSON Lines in the preference format of TRL",
        )


def _would(entries: list[Edit], verb: str) -> str:
    if not entries:
        return ""
    edit, button = entries[0], "Undo" if verb == "takes back" else "Redo"
    what = f"the {NOUNS.get(edit.action, edit.action)} of pair {edit.pair_id}"
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return f"{button} {verb} {what}{more} at {datetime.fromtimestamp(edit.time):%H:%M}."


def _step(move: Callable[[], Edit | None]) -> None:
    """Undo or redo, and open the pair that it changed."""
    if entry := _act(move):
        put(pair=entry.pair_id)


def _pair_actions(store: PairStore, pair: Pair, listed: Listed) -> None:
    """Draw the pair's id and the buttons that change it or open its neighbours."""
    seen = pair.version
    changes: list[tuple[str, str, str, Callable[[], Pair], str]] = [
        ("Swap", "swap_horiz", "S", lambda: store.swap(pair.id, expected_version=seen), "Exchange chosen and rejected."),
        ("Drop", "delete", "D", lambda: store.drop(pair.id, expected_version=seen), "Leave this pair out of training."),
    ]
    if pair.dropped:
        restore = lambda: store.restore(pair.id, expected_version=seen)  # noqa: E731
        changes[1] = ("Restore", "restore_from_trash", "D", restore, "Take this pair into training again.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Pair {plain(pair.id)}**, version {pair.version}{', dropped' if pair.dropped else ''}", width="content")
        st.space("stretch")
        for label, icon, shortcut, change, message in changes:
            st.button(
                label,
                icon=f":material/{icon}:",
                shortcut=shortcut,
                disabled=not may_edit(),
                on_click=_act,
                args=(change,),
                help=message,
            )
        before, after = _neighbours(listed, pair.id)
        ways: list[tuple[str, str, Literal["left", "right"], tuple[str, int] | None]] = [
            ("Previous pair", "P", "left", before),
            ("Next pair", "N", "right", after),
        ]
        for label, shortcut, icon, place in ways:
            icon_name = f":material/chevron_{icon}:"
            st.button(
                label, icon=icon_name, icon_position=icon, shortcut=shortcut, disabled=place is None, on_click=_go, args=(place,)
            )


def _neighbours(listed: Listed, id: str) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """Return the pairs before and after a pair in the list, each with its page.

    If the pair has left the list (because it was dropped), the next one is the pair that took its place.
    """
    row = listed.ids.index(id) if id in listed.ids else None
    place = row if row is not None else min(int(st.session_state.get("pairs.row", 0)), len(listed.ids))
    line = [(i, listed.sheet) for i in listed.ids]
    ahead = [*line[place + (row is not None) :], *([(listed.after, listed.sheet + 1)] if listed.after else [])]
    behind = [*([(listed.before, listed.sheet - 1)] if listed.before else []), *line[:place]]
    return (behind[-1] if behind else None), (ahead[0] if ahead else None)


def _go(place: tuple[str, int] | None) -> None:
    if place is not None:
        put(pair=place[0], sheet=str(place[1]))


def _act(change: Callable[[], T]) -> T | None:
    """Make a change; a refusal becomes an error message on the page."""
    require_edit()
    try:
        return change()
    except PairsError as error:
        st.session_state["pairs.refused"] = str(error)[:1].upper() + str(error)[1:]
        return None


page()
