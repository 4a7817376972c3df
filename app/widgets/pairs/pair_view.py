"""One pair: both answers side by side, the form that edits them, and every version."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import streamlit as st

from app.state.access import may_edit, require_edit
from app.state.author import author
from app.text.plain import displayable, editable, plain
from app.widgets.difference import answers_html
from app.widgets.pairs.turn_editor import edit_turns
from lab.pairs import Answer, Edit, Pair, PairStore, Prompt, answer_text, prompt_text
from lab.world import BEST, is_world, score

PARTS = ("prompt", "chosen", "rejected")
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
    if is_world(store.source):
        st.text(label_agreement(pair))
    elif pair.meta:
        st.caption("Other columns of the source")
        st.code(displayable(json.dumps(pair.meta, indent=1, ensure_ascii=False)), language="json", wrap_lines=True)


def judgements(store: PairStore, pair: Pair) -> tuple[str, str]:
    """Return the scores of both answers by the embedded world's oracle; empty for other pair sets."""
    if not is_world(store.source):
        return "", ""
    prompt = prompt_text(pair.prompt)
    scores = [score(prompt, answer_text(answer)) for answer in (pair.chosen, pair.rejected)]
    one, other = (f"Oracle: {s.total:+.1f} of at most {BEST:+g}. {s.reason.capitalize()}." for s in scores)
    return one, other


def label_agreement(pair: Pair) -> str:
    """Describe whether the label of a pair of the embedded world agrees with its oracle."""
    prompt = prompt_text(pair.prompt)
    gap = score(prompt, answer_text(pair.chosen)).total - score(prompt, answer_text(pair.rejected)).total
    verdict = f"The oracle agrees with the label: the chosen answer scores {gap:.1f} higher."
    if gap < 0:
        verdict = f"The oracle disagrees with the label: the rejected answer scores {-gap:.1f} higher."
    if gap == 0:
        verdict = "The oracle gives both answers the same score."
    if pair.meta.get("noisy"):
        chance = pair.meta.get("preference_probability", 0.0)
        verdict += f" The label was drawn at random and prefers the worse answer (as {chance:.0%} of annotators would)."
    return verdict


def edit_form(store: PairStore, pair: Pair, act: Guard) -> None:
    """Draw the form that edits a pair. act: makes a change of the store and shows a refusal on the page."""
    texts = texts_of(pair)
    draft: dict[str, str] = st.session_state.get(f"draft.{pair.id}", {})
    if draft:
        st.warning("Your text below is not saved: the pair was changed elsewhere. Saving puts it in place of the present version.")
        for side in ("chosen", "rejected"):
            theirs, mine = answer_text(getattr(pair, side)), draft.get(side)
            if mine is not None and mine != editable(theirs):
                for column, title, html in zip(st.columns(2), ("Now", "Yours"), answers_html(theirs, mine)):
                    column.caption(f"{title}, {side} answer")
                    column.html(html)
    with st.form(f"edit.{pair.id}.{pair.version}"):
        keys = {name: f"edit.{name}.{pair.id}.{pair.version}" for name in texts}
        for name in (name for name in texts if name.startswith("prompt")):
            st.text_area(plain(name.capitalize()), draft.get(name, texts[name]), height=90, key=keys[name])
        for column, side in zip(st.columns(2), ("chosen", "rejected")):
            for name in (name for name in texts if name.startswith(side)):
                label = plain(f"{name} answer".capitalize() if name == side else name.capitalize())
                column.text_area(label, draft.get(name, texts[name]), height=240 if name == side else 120, key=keys[name])
        st.form_submit_button("Save", type="primary", disabled=not may_edit(), on_click=_save, args=(store, pair, texts, keys, act))


def texts_of(pair: Pair) -> dict[str, str]:
    """Return the editable texts by name; every turn of a conversation has its own."""
    texts: dict[str, str] = {}
    for name, value in zip(PARTS, pair.content):
        if isinstance(value, str):
            texts[name] = value
            continue
        for number, message in enumerate(value, 1):
            if isinstance(message["content"], str):
                texts[f"{name}, turn {number} ({message['role']})"] = message["content"]
    return {name: editable(text) for name, text in texts.items()}


def changes_of(pair: Pair, texts: dict[str, str], typed: dict[str, str]) -> dict[str, Any]:
    """Return the parts of a pair (prompt, chosen, rejected) in which a text was changed, with the texts typed in."""
    changes: dict[str, Any] = {}
    for part, value in zip(PARTS, pair.content):
        names = [name for name in texts if name.split(",")[0] == part]
        if any(typed[name] != texts[name] for name in names):
            changes[part] = _with_texts(value, [None if typed[name] == texts[name] else typed[name] for name in names])
    return changes


def _with_texts(before: Prompt | Answer, typed: list[str | None]) -> Prompt | Answer:
    """Return a text, or messages with new texts in place of the former ones; None leaves one as it is, to the last character."""
    if isinstance(before, str):
        return before if typed[0] is None else _with_line_ends(typed[0], before)
    texts = iter(typed)
    return [
        message
        if not isinstance(old := message["content"], str) or (new := next(texts)) is None
        else {**message, "content": _with_line_ends(new, old)}
        for message in before
    ]


def _with_line_ends(typed: str, before: str) -> str:
    """Return a typed text with the line ends of the former one: a browser's field turns every line end into a line feed."""
    return typed.replace("\n", "\r\n") if "\r\n" in before and "\r" not in typed else typed


def _save(store: PairStore, pair: Pair, texts: dict[str, str], keys: dict[str, str], act: Guard) -> None:
    """Store the changed texts; a refusal keeps what was typed."""
    require_edit()
    typed = {name: st.session_state[key] for name, key in keys.items()}
    changes = changes_of(pair, texts, typed)
    st.session_state[f"draft.{pair.id}"] = typed
    saved = act(lambda: store.edit(pair.id, **changes, expected_version=pair.version, author=author()))
    # While the version is unchanged, the widgets keep what was typed.
    if saved is not None or store.get(pair.id).version == pair.version:
        del st.session_state[f"draft.{pair.id}"]


def _history(store: PairStore, pair: Pair) -> None:
    actions = {edit.after: edit for edit in store.log(id=pair.id)}
    versions = store.history(pair.id)
    for old in reversed(versions[-VERSIONS:]):
        with st.expander(f"Version {old.version}: {_what_happened(actions.get(old.version))}", expanded=old == pair):
            st.code(displayable(prompt_text(old.prompt)), language=None, wrap_lines=True)
            for column, text in zip(st.columns(2), (old.chosen, old.rejected)):
                column.code(displayable(answer_text(text)), language=None, wrap_lines=True)
    if len(versions) > VERSIONS:
        st.caption(f"{len(versions) - VERSIONS} older versions are stored, but not shown.")


def _what_happened(edit: Edit | None) -> str:
    if edit is None:
        return "as imported"
    return f"{PAST.get(edit.action, edit.action)} on {datetime.fromtimestamp(edit.time):%-d %B %Y at %H:%M}"


PAST = {
    "edit": "edited",
    "swap": "swapped",
    "drop": "dropped",
    "restore": "restored",
    "undo": "an edit was undone",
    "redo": "an edit was done again",
    "add": "added",
}
