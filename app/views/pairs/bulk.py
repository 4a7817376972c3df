"""Changes of many pairs at once: chosen, looked at beforehand, made in one step and taken back by one Undo."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.state.access import may_edit
from app.state.author import author
from app.text.plain import one_line
from app.views.pairs.listing import Listed, count_words, tick, ticked
from app.widgets.pairs.acting import act
from app.widgets.pairs.pair_actions import DEGREES, degree_name
from lab.pairs import BulkChange, Pair, PairStore, answer_text

ACTIONS = {
    "Drop": "Drop",
    "Restore": "Restore",
    "Swap": "Swap",
    "Add tag": "Add the tag to",
    "Remove tag": "Remove the tag from",
    "Set weight": "Set the weight of",
    "Set degree": "Set the degree of",
}
"""Changes of the dialog, and the words for each before the number of pairs."""
APPLIED = "bulk.applied"
"""In the session: whether the dialog's button was pressed. What it returns is lost, since its label changes with the pairs."""
SHOWN = 8
"""Pairs of the preview."""


def selection_bar(store: PairStore, listed: Listed) -> None:
    """Draw how many pairs are listed and ticked, and what can be done with the ticked ones."""
    ids = ticked(store)
    st.text(count_words(listed.total, len(store), listed.query), width="content")
    if ids:
        st.text(f"{len(ids):,} ticked", width="content")
        if st.button("Change ...", icon=":material/checklist:", disabled=not may_edit(), type="primary"):
            _dialog(store, ids)
        st.button("Untick", on_click=tick, args=(store, []))
    if ids and len(ids) < listed.total:
        st.button(
            f"Tick all {listed.total:,}", on_click=_tick_all, args=(store, listed), help="Every pair of the list, on all pages."
        )
    st.space("stretch")


def _tick_all(store: PairStore, listed: Listed) -> None:
    tick(store, store.matching(listed.query))


@st.dialog("Change the ticked pairs", width="large")
def _dialog(store: PairStore, ids: Sequence[str]) -> None:
    if st.session_state.pop(APPLIED, False):
        st.rerun()  # closes the dialog
    action = st.segmented_control("What", list(ACTIONS), default=None, key="bulk.action")
    if action is None:
        st.caption(f"Choose what to change in the {len(ids):,} ticked pairs; nothing changes before you have seen it.")
        return
    change = _change(store, action)
    reason = st.text_input("Reason (kept in the history)", key="bulk.reason", max_chars=200)
    if change is None:
        return
    preview = store.preview(ids, change, SHOWN)
    st.text(f"{preview.count:,} of {len(ids):,} pairs change.")
    if preview.ids:
        pairs = [store.get(id) for id in preview.ids]
        lines = [{"Pair": pair.id, "Before": _line(pair), "After": _line(change.of(pair))} for pair in pairs]
        st.dataframe(pd.DataFrame(lines), hide_index=True)
        if preview.count > len(lines):
            st.caption(f"The first {len(lines)} of them.")
    counted = f"{preview.count:,} {'pair' if preview.count == 1 else 'pairs'}"
    label, done = f"{ACTIONS[action]} {counted}", f"{action}: {counted}. One Undo takes it back."
    st.button(
        label,
        type="primary",
        disabled=not preview.count,
        on_click=_apply,
        args=(store, ids, change, reason, done),
        key="bulk.apply",
    )


def _apply(store: PairStore, ids: Sequence[str], change: BulkChange, reason: str, done: str) -> None:
    st.session_state[APPLIED] = True
    if act(lambda: store.apply(ids, change, author=author(), reason=reason), done) is not None:
        tick(store, [])


def _change(store: PairStore, action: str) -> BulkChange | None:
    """Draw the fields that an action needs; return the change, or None while something is missing."""
    if action in ("Add tag", "Remove tag"):
        known = list(store.tags())
        new = action == "Add tag"
        tag = st.selectbox("Tag", known, None, key="bulk.tag", accept_new_options=new, placeholder="Choose or type a tag")
        return BulkChange("tag" if action == "Add tag" else "untag", tag) if tag else None
    if action == "Set weight":
        return BulkChange("weight", st.number_input("Weight", 0.0, 100.0, 1.0, 0.5))
    if action == "Set degree":
        return BulkChange("degree", DEGREES[st.selectbox("Degree", list(DEGREES), index=2) or "none"])
    return {"Drop": BulkChange("drop"), "Restore": BulkChange("restore"), "Swap": BulkChange("swap")}[action]


def _line(pair: Pair) -> str:
    """Return a pair on one line, first what a change of many pairs can change: the end of the line may be cut off."""
    labels = (["dropped"] if pair.dropped else []) + [f"#{one_line(tag)}" for tag in pair.tags]
    labels += [f"weight {pair.weight:g}"] if pair.weight != 1 else []
    labels += [] if pair.degree is None else [f"degree {degree_name(pair.degree)}"]
    texts = f"{one_line(answer_text(pair.chosen)[:80])} > {one_line(answer_text(pair.rejected)[:80])}"
    return f"{', '.join(labels)}: {texts}" if labels else texts
