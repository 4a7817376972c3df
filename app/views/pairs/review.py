"""Review: one pair after the other, judged by the keyboard alone, with progress and undo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import streamlit as st

from app.state.access import may_edit
from app.state.address import put
from app.state.author import author
from app.text.plain import plain
from app.text.run_text import duration, pair_annotations
from app.views.pairs import review_queue
from app.views.pairs.filters import REVIEWED
from app.views.pairs.nothing import show_nothing, show_rest
from app.views.pairs.review_queue import Review
from app.widgets import shortcuts
from app.widgets.pairs.acting import act
from app.widgets.pairs.pair_actions import DEGREES, REMEDIES, show_findings
from app.widgets.pairs.pair_view import compare
from app.widgets.pairs.runs_on_set import show_runs
from app.widgets.pairs.text_editor import edit_form
from lab.pairs import Pair, PairsError, PairStore, apply_remedy
from lab.pairs.query import PairQuery

REASON = "review"

T = TypeVar("T")


def show_review(store: PairStore, query: PairQuery) -> None:
    """Draw the review of the pairs that match a query."""
    review = review_queue.current(store.location, query) or _begin(store, query)
    _progress(review)
    if review.id is None:
        _end(store, review)
        return
    try:
        pair = store.get(review.id)
    except PairsError as error:
        st.error(plain(error))
        return
    keys = _keys(store, review, pair)
    shortcuts.bind(keys, key="review-keys")
    _buttons(keys)
    _fields(store, review, pair)
    st.caption(_described(pair))
    show_findings(store, pair, key=None, on_open=lambda id: put(view=None, pair=id))
    compare(store, pair)
    show_runs(store)


def _described(pair: Pair) -> str:
    """Return id, version and annotations of a pair, as Markdown."""
    parts = [f"Pair {pair.id}", f"version {pair.version}", *(["dropped"] if pair.dropped else []), *pair_annotations(pair)]
    parts += [f"#{tag}" for tag in pair.tags] + ([f"note: {pair.note}"] if pair.note else [])
    return plain(", ".join(parts))


def _begin(store: PairStore, query: PairQuery) -> Review:
    before = store.count(replace(query, tags=(*query.tags, REVIEWED)))
    return review_queue.begin(store.location, query, store.matching(query), before)


def _progress(review: Review) -> None:
    done, size = len(review.judged), len(review.ids)
    rest = review.remaining_seconds
    words = f"{done:,} of {size:,} judged" + (f", {review.before:,} reviewed before" if review.before else "")
    words += f", about {duration(rest)} left" if rest else ""
    st.progress(done / size if size else 1.0, text=words)
    st.caption(plain(review.said or "b: chosen is better, w: chosen is worse, n: next, ?: all keys"))


def _end(store: PairStore, review: Review) -> None:
    if not review.ids:
        empty = "No pair matches the search and the filters, so there is nothing to review. Change them to begin."
        show_nothing(store, review.query, empty)
        return
    rest = len(review.ids) - len(review.judged)
    st.success(f"End of the queue: {len(review.judged):,} judged, {rest:,} passed over.")
    if review.query.finding:
        show_rest(store, review.query.finding)
    keys = {"u": shortcuts.Key("undo the last change", lambda: _undo(store, review)), "p": _way("previous pair", review, -1)}
    shortcuts.bind(keys, key="review-keys")
    _buttons(keys)


def _way(description: str, review: Review, by: int) -> shortcuts.Key:
    return shortcuts.Key(description, lambda: review.go(by))


def _keys(store: PairStore, review: Review, pair: Pair) -> dict[str, shortcuts.Key]:
    """Return what each key does to the shown pair."""
    ways = {
        "n": _way("next pair", review, 1),
        "p": _way("previous pair", review, -1),
        "ArrowRight": _way("next pair", review, 1),
        "ArrowLeft": _way("previous pair", review, -1),
    }
    if not may_edit():
        return ways
    tags = tuple(sorted({*pair.tags, REVIEWED}))
    by: dict[str, Any] = {"expected_version": pair.version, "author": author(), "reason": REASON}

    def judged(said: str, change: Callable[[], object]) -> None:
        if act(change) is not None:
            review.judge(said)

    def better(name: str) -> None:
        degree = DEGREES[name] if name else pair.degree
        said = f"Pair {pair.id}: chosen is better{f' ({name})' if name else ''}."
        judged(said, lambda: store.edit(pair.id, tags=tags, degree=degree, **by))

    def worse() -> None:
        swapped: dict[str, Any] = {"chosen": pair.rejected, "rejected": pair.chosen}
        judged(f"Pair {pair.id}: answers exchanged.", lambda: store.edit(pair.id, **swapped, tags=tags, **by))

    def swap() -> None:
        if act(lambda: store.swap(pair.id, **by)) is not None:
            review.said = f"Pair {pair.id}: answers exchanged; it is still shown."

    def drop() -> None:
        if pair.dropped:
            judged(f"Pair {pair.id} restored.", lambda: store.restore(pair.id, **by))
        else:
            judged(f"Pair {pair.id} dropped.", lambda: store.drop(pair.id, **by))

    def remedy() -> None:
        every = store.findings(pair.id)
        findings = [finding for finding in every if finding.remedy != "none"]
        if not findings:
            none = "The checks found nothing in this pair, so there is nothing to fix (Evidence runs the checks)."
            review.said = "What was found in this pair has no remedy; decide by hand." if every else none
            return
        said = f"Pair {pair.id}: {REMEDIES[findings[0].remedy].lower()}."
        judged(said, lambda: apply_remedy(store, findings[0], tags=(REVIEWED,), **by))

    def write(field: str) -> None:
        review.writing = "" if review.writing == field else field

    return {
        "b": shortcuts.Key("chosen is better, next", lambda: better("")),
        "1": shortcuts.Key("chosen is slightly better, next", lambda: better("slight")),
        "2": shortcuts.Key("chosen is clearly better, next", lambda: better("clear")),
        "3": shortcuts.Key("chosen is far better, next", lambda: better("strong")),
        "w": shortcuts.Key("chosen is worse: exchange, next", worse),
        "s": shortcuts.Key("swap and stay", swap),
        "d": shortcuts.Key("restore, next" if pair.dropped else "drop, next", drop),
        "f": shortcuts.Key("fix: remedy of the first finding, next", remedy),
        "e": shortcuts.Key("edit (Ctrl+Enter saves)", lambda: write("edit")),
        "t": shortcuts.Key("tag", lambda: write("tag")),
        "m": shortcuts.Key("note", lambda: write("note")),
        **ways,
        "u": shortcuts.Key("undo the last change", lambda: _undo(store, review)),
        "y": shortcuts.Key("redo", lambda: _redo(store, review)),
    }


def _undo(store: PairStore, review: Review) -> None:
    entry = act(lambda: store.undo(author=author()))
    if entry is not None:
        review.return_to(entry.pair_id)
        review.said = f"Undone; pair {entry.pair_id} is shown."


def _redo(store: PairStore, review: Review) -> None:
    entry = act(lambda: store.redo(author=author()))
    if entry is not None:
        review.return_to(entry.pair_id)
        review.judge(f"Done again: pair {entry.pair_id}.")


LABELS = {
    "b": "Better", "w": "Worse", "s": "Swap", "d": "Drop", "f": "Fix", "e": "Edit", "t": "Tag", "m": "Note",
    "p": "Previous", "n": "Next", "u": "Undo", "y": "Redo",
}  # fmt: skip
"""Keys with a button, and its label."""


def _buttons(keys: dict[str, shortcuts.Key]) -> None:
    """Draw a button for each key, for the mouse and for screen readers, and the list of all keys."""
    with st.container(horizontal=True):
        for key, label in LABELS.items():
            if key in keys:
                name = "Restore" if keys[key].description.startswith("restore") else label
                st.button(f"{name} `{key}`", key=f"review.{key}", on_click=keys[key].act, help=keys[key].description)
        shortcuts.help_button(keys)


def _fields(store: PairStore, review: Review, pair: Pair) -> None:
    """Draw the field that a key has opened, with the focus in it."""
    name = f"review.{review.writing}.{pair.id}.{pair.version}"
    by: dict[str, Any] = {"expected_version": pair.version, "author": author(), "reason": REASON}
    if review.writing == "edit":
        edit_form(store, pair, lambda change: _written(review, change), on_cancel=lambda: _close_field(review))
        shortcuts.focus(f"edit.chosen.{pair.id}.{pair.version}", name)
    elif review.writing == "tag":
        st.text_input(
            "Tags to add, separated by commas",
            key=name,
            on_change=_written,
            args=(review, lambda: _tag(store, pair, name, by)),
        )
        shortcuts.focus(name, name)
    elif review.writing == "note":
        save = lambda: store.edit(pair.id, note=st.session_state[name], **by)  # noqa: E731
        st.text_input("Note", pair.note, key=name, on_change=_written, args=(review, save))
        shortcuts.focus(name, name)


def _tag(store: PairStore, pair: Pair, name: str, by: dict[str, Any]) -> Pair:
    added = {tag.strip() for tag in st.session_state[name].split(",") if tag.strip()}
    return store.edit(pair.id, tags=tuple(sorted({*pair.tags, *added})), **by)


def _close_field(review: Review) -> None:
    """Close the field that a key has opened."""
    review.writing = ""


def _written(review: Review, change: Callable[[], T]) -> T | None:
    result = act(change)
    if result is not None:
        review.writing, review.said = "", "Saved."
    return result
