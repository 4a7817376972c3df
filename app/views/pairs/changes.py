"""Changes of the set: who did what when, named snapshots, and the difference between any two versions."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import streamlit as st

from app.state.access import may_edit
from app.state.author import author, author_field
from app.text.plain import displayable, one_line, plain
from app.widgets.difference import answers_html
from app.widgets.pairs.acting import act
from app.widgets.pairs.pair_actions import degree_name
from lab import home
from lab.pairs import Difference, Pair, PairStore, answer_text, prompt_text

LATEST = 200
"""Log entries that are shown."""
OTHER = "another version ..."
EXCERPT = 100
"""Most characters of the prompt over a changed pair."""
SHEET = 10
"""Changed pairs on one page of the difference."""


def show_changes(store: PairStore) -> None:
    """Draw author, log, snapshots and difference."""
    left, right = st.columns([6, 4], gap="large")
    with left:
        _log(store)
    with right:
        author_field(home.author())
        _snapshots(store)
    st.subheader("Difference between two versions")
    _difference(store)


def _log(store: PairStore) -> None:
    st.subheader("History of the set")
    entries = store.log(since=max(0, store.version - LATEST))
    if not entries:
        st.info("Nothing was changed since the import. Every edit, swap and drop will stand here, with its author.")
        return
    rows = [
        {
            "Version": entry.number,
            "Time": datetime.fromtimestamp(entry.time),
            "Author": displayable(entry.author),
            "Change": f"{entry.action}, new pair" if entry.before == 0 and entry.action != "add" else entry.action,
            "Pair": entry.pair_id,
            "Reason": displayable(entry.reason),
        }
        for entry in reversed(entries)
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=320,
        column_config={"Time": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm:ss")},
    )
    if store.version > LATEST:
        st.caption(f"The latest {LATEST} of {store.version:,} changes.")


def _snapshots(store: PairStore) -> None:
    st.subheader("Snapshots")
    name = st.text_input("Name for the present version", key="snapshot.name", placeholder="before the clean-up", max_chars=80)
    st.button(
        "Save snapshot",
        icon=":material/bookmark_add:",
        disabled=not name or not may_edit(),
        on_click=act,
        args=(lambda: store.snapshot(name, author=author()), f'Snapshot "{name}" saved.'),
        help="A run can be set to a snapshot, so that later edits do not reach it.",
    )
    for snapshot in store.snapshots():
        saved = datetime.fromtimestamp(snapshot.time)
        st.text(displayable(f"{snapshot.name}: version {snapshot.version}, {saved:%-d %B %Y, %H:%M}, {snapshot.author}"))


def _difference(store: PairStore) -> None:
    named = [(snapshot.name, snapshot.version) for snapshot in store.snapshots()]
    versions = [("as imported", 0), *named, ("now", store.version), (OTHER, store.version)]
    one, two, three = st.columns([3, 3, 6], vertical_alignment="bottom")
    before = one.selectbox("From", versions, 0, key="difference.from", format_func=_version)
    after = two.selectbox("To", versions, len(versions) - 2, key="difference.to", format_func=_version)
    first, last = (
        int(column.number_input("Version", 0, store.version, key=f"difference.version.{key}")) if name == OTHER else version
        for column, key, (name, version) in ((one, "from", before), (two, "to", after))
    )
    difference = store.diff(first, last)
    changes = _changes(difference)
    three.text(_words(difference))
    if not changes:
        return
    sheets = -(-len(changes) // SHEET)
    sheet = st.pagination(sheets, key="difference.sheet") if sheets > 1 else 1
    for kind, old, new in changes[(sheet - 1) * SHEET : sheet * SHEET]:
        pair = new if new is not None else old
        with st.expander(plain(_heading(kind, pair)), expanded=len(changes) <= SHEET):
            _change(old, new)


def _version(named: tuple[str, int]) -> str:
    name, version = named
    return name if name == OTHER else f"{one_line(name)} ({version})"


def _changes(difference: Difference) -> list[tuple[str, Pair | None, Pair | None]]:
    """Return (kind, before, after) of every pair that differs."""
    return [
        *(("changed", before, after) for before, after in difference.changed),
        *(("added", None, pair) for pair in difference.added),
        *(("restored", None, pair) for pair in difference.restored),
        *(("dropped", pair, None) for pair in difference.dropped),
    ]


def _heading(kind: str, pair: Pair | None) -> str:
    return f"{kind}: pair {pair.id}, {one_line(prompt_text(pair.prompt)[:EXCERPT])}" if pair else kind


def _words(difference: Difference) -> str:
    counts = {name: len(getattr(difference, name)) for name in ("changed", "added", "restored", "dropped")}
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    return ", ".join(parts) if parts else "Both versions have the same pairs."


def _change(before: Pair | None, after: Pair | None) -> None:
    """Draw both versions of a pair, with what differs marked."""
    if before is None or after is None:
        only = before or after
        if only is not None:
            st.code(
                displayable(
                    f"{prompt_text(only.prompt)}\n\nchosen: {answer_text(only.chosen)}\n\nrejected: {answer_text(only.rejected)}"
                ),
                language=None,
                wrap_lines=True,
            )
        return
    texts = {
        "Prompt": (prompt_text(before.prompt), prompt_text(after.prompt)),
        "Chosen": (answer_text(before.chosen), answer_text(after.chosen)),
        "Rejected": (answer_text(before.rejected), answer_text(after.rejected)),
    }
    for name, (old, new) in texts.items():
        if old != new:
            for column, text, html in zip(st.columns(2), ("before", "after"), answers_html(old, new)):
                column.caption(f"{name} {text}")
                column.html(html)
    labels: dict[str, tuple[object, object]] = {
        "dropped": (before.dropped, after.dropped),
        "weight": (before.weight, after.weight),
        "degree": (degree_name(before.degree), degree_name(after.degree)),
        "tags": (", ".join(before.tags), ", ".join(after.tags)),
        "note": (before.note, after.note),
    }
    for name, (was, now) in labels.items():
        if was != now:
            st.text(displayable(f"{name}: {was if was not in (None, '') else 'none'} → {now if now not in (None, '') else 'none'}"))
