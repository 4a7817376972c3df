"""The form that edits the texts of a pair, and puts them together with what somebody else has changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import streamlit as st

from app.state.access import may_edit, require_edit
from app.state.author import author
from app.text.plain import displayable, editable, plain
from app.widgets.difference import answers_html
from app.widgets.pairs.acting import REFUSED
from app.widgets.pairs.merging import Draft
from lab.pairs import Answer, Pair, PairStore, Prompt

PARTS = ("prompt", "chosen", "rejected")
THEIRS, MINE = "Theirs", "Mine"

Guard = Callable[[Callable[[], Any]], Any]


def edit_form(store: PairStore, pair: Pair, act: Guard, on_cancel: Callable[[], None] | None = None) -> None:
    """Draw the form that edits a pair.

    Args:
        store: The pair set.
        pair: The pair as it is shown.
        act: Makes a change of the store and shows a refusal on the page.
        on_cancel: Called after Cancel has brought the stored texts back.
    """
    texts = texts_of(pair)
    keys = {name: f"edit.{name}.{pair.id}.{pair.version}" for name in texts}
    begun = texts_to_begin_with(store, pair, texts, keys)
    with st.form(f"edit.{pair.id}.{pair.version}"):
        for name in (name for name in texts if name.startswith("prompt")):
            st.text_area(plain(name.capitalize()), begun[name], height=90, key=keys[name])
        for column, side in zip(st.columns(2), ("chosen", "rejected")):
            for name in (name for name in texts if name.startswith(side)):
                column.text_area(plain(_label(name)), begun[name], height=240 if name == side else 120, key=keys[name])
        with st.container(horizontal=True):
            st.form_submit_button(
                "Save", type="primary", disabled=not may_edit(), on_click=_save, args=(store, pair, texts, keys, act)
            )
            st.form_submit_button("Cancel", on_click=_cancel, args=(pair, texts, keys, on_cancel), help="Take the typed text back.")


def told_of_conflict(store: PairStore, pair: Pair) -> str:
    """Return the sentence that tells a person whose edit was refused what has happened and what to do."""
    edits = store.log(id=pair.id)
    by = f" by {edits[-1].author}, {datetime.fromtimestamp(edits[-1].time):%H:%M:%S}," if edits else ""
    return (
        f"Not saved yet: this pair was changed{by} while you edited it. Below, what only one of you changed is put together; where "
        "both changed the same text, choose. Then save."
    )


def draft_key(pair: Pair) -> str:
    """Return the key of a pair's refused edit in the session."""
    return f"draft.{pair.id}"


def texts_to_begin_with(store: PairStore, pair: Pair, texts: Mapping[str, str], keys: Mapping[str, str]) -> Mapping[str, str]:
    """Return the texts for the fields of an editor; those of a refused edit are put together with `texts`, which is drawn."""
    draft: Draft[str] | None = st.session_state.get(draft_key(pair))
    if draft is None:
        return texts
    _show_conflict(store, pair, draft, texts, keys)
    return draft.merged(texts)


def _show_conflict(store: PairStore, pair: Pair, draft: Draft[str], texts: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """Draw what happened, both versions of every text that both have changed, and texts that have no place any more."""
    st.warning(plain(told_of_conflict(store, pair)))
    for name in draft.conflicts(texts):
        sides = answers_html(texts[name], draft.mine[name])
        for column, title, html in zip(st.columns(2), (THEIRS, MINE), sides):
            column.caption(plain(f"{title}: {_label(name).lower()}"))
            column.html(html)
        key = f"choice.{keys[name]}"
        st.segmented_control(
            plain(f"Take for the {_label(name).lower()}"),
            [THEIRS, MINE],
            default=MINE,
            required=True,
            key=key,
            on_change=_take,
            args=(key, keys[name], {THEIRS: texts[name], MINE: draft.mine[name]}),
        )
    for name, text in draft.lost(texts).items():
        st.caption(plain(f"{_label(name)}: the pair has no such text any more. Yours was:"))
        st.code(displayable(text), language=None, wrap_lines=True)
    st.button("Discard my text", key=f"discard.{pair.id}", on_click=_discard, args=(pair, texts, keys))


def _take(choice: str, field: str, texts: Mapping[str, str]) -> None:
    """Put the chosen version of a text into its field."""
    st.session_state[field] = texts[st.session_state[choice]]


def _discard(pair: Pair, texts: Mapping[str, str], keys: Mapping[str, str]) -> None:
    st.session_state.pop(draft_key(pair), None)
    for name, text in texts.items():
        st.session_state[keys[name]] = text


def _cancel(pair: Pair, texts: Mapping[str, str], keys: Mapping[str, str], on_cancel: Callable[[], None] | None) -> None:
    _discard(pair, texts, keys)
    if on_cancel is not None:
        on_cancel()


def _label(name: str) -> str:
    return f"{name} answer".capitalize() if name in ("chosen", "rejected") else name.capitalize()


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
    saved = act(lambda: store.edit(pair.id, **changes, expected_version=pair.version, author=author()))
    # While the version is unchanged, the widgets keep what was typed.
    if saved is None and store.get(pair.id).version != pair.version:
        st.session_state[draft_key(pair)] = Draft(texts, typed)
        st.session_state.pop(REFUSED, None)  # the form tells more
    else:
        st.session_state.pop(draft_key(pair), None)
