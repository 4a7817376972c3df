"""The opened pair: what is done to it by one key, its findings with their remedies, and its neighbours in the list."""

from __future__ import annotations

import streamlit as st

from app.state.access import may_edit, require_edit
from app.state.address import put
from app.state.author import author
from app.text.plain import plain
from app.views.pairs.listing import Listed, open_pair
from app.widgets.pairs.acting import act
from app.widgets.pairs.pair_actions import change_buttons, show_findings, show_labels
from app.widgets.pairs.pair_view import show
from app.widgets.pairs.runs_on_set import show_runs
from lab.pairs import Pair, PairsError, PairStore


def show_opened(store: PairStore, listed: Listed) -> None:
    """Draw the pair that the address names."""
    try:
        pair = store.get(st.query_params["pair"])
    except PairsError as error:
        st.error(plain(error))
        return
    _actions(store, pair, listed)
    show_findings(store, pair, on_open=lambda id: open_pair(store, id))
    show(store, pair, act)
    show_labels(store, pair)
    show_runs(store)


def _actions(store: PairStore, pair: Pair, listed: Listed) -> None:
    """Draw the pair's id and the buttons that change it or open its neighbours."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Pair {plain(pair.id)}**, version {pair.version}{', dropped' if pair.dropped else ''}", width="content")
        st.space("stretch")
        change_buttons(store, pair)
        st.button(
            "Duplicate",
            icon=":material/content_copy:",
            disabled=not may_edit(),
            on_click=act,
            args=(lambda: _open_copy(store, pair),),
            help="Add a copy of this pair to edit.",
        )
        before, after = neighbours(listed, pair.id)
        for label, key, side, place in (("Previous", "P", "left", before), ("Next", "N", "right", after)):
            st.button(
                label, icon=f":material/chevron_{side}:", shortcut=key, disabled=place is None, on_click=_go, args=(store, place)
            )
        st.button(
            "Close", icon=":material/close:", type="tertiary", on_click=open_pair, args=(store, None), help="Show the list alone."
        )


def _open_copy(store: PairStore, pair: Pair) -> None:
    require_edit()
    put(pair=store.duplicate(pair.id, author=author()).id)


def neighbours(listed: Listed, id: str) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """Return the pairs before and after a pair in the list, each with its page.

    If the pair has left the list (because it was dropped), the next one is the pair that took its place.
    """
    row = listed.ids.index(id) if id in listed.ids else None
    place = row if row is not None else min(int(st.session_state.get("pairs.row", 0)), len(listed.ids))
    line = [(i, listed.sheet) for i in listed.ids]
    ahead = [*line[place + (row is not None) :], *([(listed.after, listed.sheet + 1)] if listed.after else [])]
    behind = [*([(listed.before, listed.sheet - 1)] if listed.before else []), *line[:place]]
    return (behind[-1] if behind else None), (ahead[0] if ahead else None)


def _go(store: PairStore, place: tuple[str, int] | None) -> None:
    if place is not None:
        open_pair(store, place[0])
        put(sheet=str(place[1]))
