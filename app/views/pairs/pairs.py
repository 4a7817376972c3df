"""Pairs: list, search and filter a pair set, change one pair or many, review by keyboard, and see what was changed.

The address of the page holds the set, the view, the filters and the opened pair (by its id): a reload or a link finds them again.
"""

from __future__ import annotations

from datetime import datetime

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import lab
from app.state import pair_sets
from app.state.access import WHY, may_edit
from app.state.address import put
from app.state.author import author
from app.state.current_run import CHOSEN, opened_pair
from app.state.jobs import require
from app.text.plain import plain
from app.views.pairs import adding, bulk, changes, databases, evidence, exporting, filters, histograms, listing, opened, review
from app.widgets import import_form
from app.widgets.pairs.acting import act, show_messages
from lab.pairs import Edit, PairsError, PairStore
from lab.pairs.query import PairQuery

VIEWS = {"list": "List", "review": "Review", "evidence": "Evidence", "changes": "Changes", "add": "Add", "import": "Import"}
"""Views of the page, as the address and the page name them."""
NOUNS = {
    "edit": "edit",
    "swap": "swap",
    "drop": "dropping",
    "restore": "restoring",
    "add": "adding",
    "tag": "tagging",
    "untag": "untagging",
}


def page() -> None:
    """Draw the whole page."""
    head = st.container(horizontal=True, vertical_alignment="center")
    head.title("Pairs", width="content", anchor=False)
    if not may_edit():
        st.info(WHY)
    stored = pair_sets.stored_sets()
    entered = "pairs" not in st.query_params  # by the menu, whose address says nothing
    wanted = st.query_params.get("pairs", _set_of_the_run(stored))
    with head:
        key = _choose_set([*pair_sets.WORLDS, *stored], wanted)
        if may_edit():
            databases.popover(stored.get(key or ""))
    show_messages()
    if key is None:
        st.error(plain(f"There is no pair set {wanted} here; choose another one."))
        return
    try:
        _set(key, stored, head, entered)
    except PairsError as error:  # its file is broken, or its database is away
        st.error(plain(error))


def _set(key: str, stored: dict[str, str], head: DeltaGenerator, entered: bool) -> None:
    """Draw everything about one set. Raises PairsError if it cannot be read."""
    if key in pair_sets.WORLDS:
        store = require(pair_sets.world_job(key), retry=pair_sets.forget_failed_world).store
    else:
        store = pair_sets.open_set(stored[key])
    if entered:
        put(pairs=key, pair=st.query_params.get("pair", opened_pair(store.location)))
    with head:
        view = _view()
    query = filters.query_bar(store) if view in ("list", "review", "add") else PairQuery()
    total = store.count(query)
    with head:
        _set_actions(store, query, total)
    filters.chips(query)
    if view == "list":
        _list(store, query, total)
    elif view == "review":
        review.show_review(store, query)
    elif view == "evidence":
        evidence.show_evidence(store)
    elif view == "changes":
        changes.show_changes(store)
    elif view == "import":
        import_form.show(_open_imported)
    else:
        adding.show_adding(store, query, total)


def _open_imported(store: PairStore) -> None:
    filters.open_set(pair_sets.key(store.location), view=None)


def _list(store: PairStore, query: PairQuery, total: int) -> None:
    charts = st.container()
    if "pair" in st.query_params:
        left, right = st.columns([5, 7], gap="medium")
        with left:
            bar = st.container(horizontal=True, vertical_alignment="center")
            listed = listing.show_list(store, query, total, narrow=True)
        with right:
            opened.show_opened(store, listed)
    else:
        bar = st.container(horizontal=True, vertical_alignment="center")
        listed = listing.show_list(store, query, total, narrow=False)
    with bar:
        bulk.selection_bar(store, listed)
        drawn = st.toggle("Histograms", key="histograms", bind="query-params", help="Drag over a histogram to filter the list.")
    if drawn:
        with charts:
            histograms.show_histograms(store, query)


def _view() -> str:
    wanted = st.query_params.get("view", "list")
    name = wanted if wanted in VIEWS else "list"
    chosen = st.segmented_control(
        "View",
        list(VIEWS),
        default=name,
        required=True,
        key=f"view.{name}",
        format_func=VIEWS.__getitem__,
        on_change=lambda: put(view=st.session_state[f"view.{name}"]),
        label_visibility="collapsed",
    )
    return chosen or name


def _set_of_the_run(stored: dict[str, str]) -> str:
    """Return the pair set of the run that other pages show, or the embedded world without such a run or set."""
    name = st.session_state.get(CHOSEN)
    run = next((run for run in lab.runs(archived=None) if run.dir.name == name), None) if name else None
    if run is None or run.manifest["config"]["pairs"] in pair_sets.WORLDS:
        return str(run.manifest["config"]["pairs"]) if run else pair_sets.WORLD
    key = pair_sets.key(str(run.manifest["pairs_store"]))
    return key if key in stored else pair_sets.WORLD


def _choose_set(keys: list[str], wanted: str) -> str | None:
    """Draw a list of the pair sets; return the chosen one, or None if the address names an unknown one."""
    widget = f"set.{wanted}.{pair_sets.label(wanted)}"  # made anew when the label changes, which the browser would send back
    index = keys.index(wanted) if wanted in keys else None
    chosen: str | None = st.selectbox(
        "Pair set",
        keys,
        index=index,
        format_func=pair_sets.label,
        key=widget,
        on_change=_change_set,
        args=(widget,),
        label_visibility="collapsed",
        width=260,
    )
    return chosen


def _change_set(widget: str) -> None:
    filters.open_set(st.session_state[widget])


def _set_actions(store: PairStore, query: PairQuery, total: int) -> None:
    """Draw Undo and Redo, with what they would do, and Export."""
    undone, redone = _words(store.next_undo(author=author())), _words(store.next_redo(author=author()))
    with st.container(horizontal=True, horizontal_alignment="right", width="content"):
        st.button(
            "Undo",
            icon=":material/undo:",
            disabled=not undone or not may_edit(),
            shortcut="U" if _view_is_list() else None,
            on_click=lambda: _step(act(lambda: (store.next_undo(author=author()), store.undo(author=author())))),
            help=f"Take back: {plain(undone)}" if undone else "Nothing to take back.",
        )
        st.button(
            "Redo",
            icon=":material/redo:",
            disabled=not redone or not may_edit(),
            shortcut="Y" if _view_is_list() else None,
            on_click=lambda: _step(act(lambda: (store.next_redo(author=author()), store.redo(author=author())))),
            help=f"Do again: {plain(redone)}" if redone else "Nothing to do again.",
        )
        exporting.export_popover(store, query, total)


def _view_is_list() -> bool:
    """Return whether the list is shown: the review has keys of its own."""
    return st.query_params.get("view", "list") != "review"


def _words(entries: list[Edit]) -> str:
    """Describe the change that Undo or Redo goes through."""
    if not entries:
        return ""
    noun = NOUNS.get(entries[0].action, entries[0].action)
    if len(entries) == 1:
        return f"the {noun} of pair {entries[0].pair_id} at {datetime.fromtimestamp(entries[0].time):%H:%M}"
    return f"the {noun} of {'100 or more' if len(entries) >= 100 else len(entries)} pairs"


def _step(outcome: tuple[list[Edit], Edit | None] | None) -> None:
    """Open the pair that an undo or redo has changed, if it was one."""
    if outcome is not None and outcome[1] is not None and len(outcome[0]) == 1:
        put(pair=outcome[1].pair_id)


page()
