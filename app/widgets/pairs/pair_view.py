"""One pair: both answers side by side, the forms that edit them, and every version."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import streamlit as st

from app.text.plain import displayable, plain
from app.widgets.difference import answers_html
from app.widgets.pairs.text_editor import edit_form
from app.widgets.pairs.turn_editor import edit_turns
from lab.pairs import Edit, Pair, PairStore, answer_text, prompt_text
from lab.world import score, world_of

TABS = ("Compare", "Edit", "Turns and tools", "History")

VERSIONS = 20
"""Versions that the history shows."""

Guard = Callable[[Callable[[], Any]], Any]


def show(store: PairStore, pair: Pair, act: Guard) -> None:
    """Draw the opened pair. act: makes a change of the store and shows a refusal on the page."""
    compared, edited, turns, versions = st.tabs(TABS, key="pair.tabs", on_change="rerun")
    with compared:
        compare(store, pair)
    with edited:
        edit_form(store, pair, act)
    if turns.open:  # three tables, which are only drawn when they are looked at
        with turns:
            edit_turns(store, pair, act)
    with versions:
        _history(store, pair)


def compare(store: PairStore, pair: Pair) -> None:
    """Draw prompt and both answers side by side, with what only one of them has marked."""
    st.caption("Prompt")
    st.code(displayable(prompt_text(pair.prompt)), language=None, wrap_lines=True)
    for column, side, html, judgement in zip(
        st.columns(2),
        ("chosen", "rejected"),
        answers_html(answer_text(pair.chosen), answer_text(pair.rejected)),
        judgements(store, pair),
    ):
        with column, st.container(border=True):
            st.caption(f"{side.capitalize()} answer")
            st.html(html)
            if judgement:
                st.text(judgement)
    st.caption("Underlined: what only one of the two answers has.")
    if world_of(store.source):
        st.text(label_agreement(store, pair))
    elif pair.meta:
        st.caption("Other columns of the source")
        st.code(displayable(json.dumps(pair.meta, indent=1, ensure_ascii=False)), language="json", wrap_lines=True)


def judgements(store: PairStore, pair: Pair) -> tuple[str, str]:
    """Return the scores of both answers by the oracle of an embedded world; empty for other pair sets."""
    spec = world_of(store.source)
    if spec is None:
        return "", ""
    prompt = prompt_text(pair.prompt)
    scores = [score(prompt, answer_text(answer), spec.rules) for answer in (pair.chosen, pair.rejected)]
    one, other = (f"Oracle: {s.total:+.1f} of at most {spec.rules.best:+g}. {s.reason.capitalize()}." for s in scores)
    return one, other


def label_agreement(store: PairStore, pair: Pair) -> str:
    """Describe whether the label of a pair of an embedded world agrees with its oracle; empty for other pair sets."""
    spec = world_of(store.source)
    if spec is None:
        return ""
    prompt = prompt_text(pair.prompt)
    chosen, rejected = (score(prompt, answer_text(answer), spec.rules).total for answer in (pair.chosen, pair.rejected))
    gap = chosen - rejected
    verdict = f"The oracle agrees with the label: the chosen answer scores {gap:.1f} higher."
    if gap < 0:
        verdict = f"The oracle disagrees with the label: the rejected answer scores {-gap:.1f} higher."
    if gap == 0:
        verdict = "The oracle gives both answers the same score."
    if pair.meta.get("noisy"):
        chance = pair.meta.get("preference_probability", 0.0)
        verdict += f" The label was drawn at random and prefers the worse answer (as {chance:.0%} of annotators would)."
    return verdict


def _history(store: PairStore, pair: Pair) -> None:
    actions = {edit.after: edit for edit in store.log(id=pair.id)}
    versions = store.history(pair.id)
    for old in reversed(versions[-VERSIONS:]):
        with st.expander(plain(f"Version {old.version}: {_what_happened(actions.get(old.version))}"), expanded=old == pair):
            st.code(displayable(prompt_text(old.prompt)), language=None, wrap_lines=True)
            for column, text in zip(st.columns(2), (old.chosen, old.rejected)):
                column.code(displayable(answer_text(text)), language=None, wrap_lines=True)
    if len(versions) > VERSIONS:
        st.caption(f"{len(versions) - VERSIONS} older versions are stored, but not shown.")


def _what_happened(edit: Edit | None) -> str:
    if edit is None:
        return "as imported"
    reason = f": {edit.reason}" if edit.reason else ""
    time = f"{datetime.fromtimestamp(edit.time):%-d %B %Y at %H:%M}"
    return f"{PAST.get(edit.action, edit.action)} by {edit.author} on {time}{reason}"


PAST = {
    "edit": "edited",
    "swap": "swapped",
    "drop": "dropped",
    "restore": "restored",
    "undo": "an edit was undone",
    "redo": "an edit was done again",
    "add": "added",
    "tag": "tagged",
    "untag": "a tag was removed",
    "weight": "weight set",
    "degree": "degree set",
    "note": "note set",
    "import": "imported again",
    "merge": "merged",
}
