"""The list of pairs: one page of 25, its columns, and which pairs are ticked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from app.state.address import put
from app.state.current_run import remember_pair
from app.text.excerpt import excerpt
from app.text.findings import check_title
from app.text.numbers_of_pairs import number_heading, number_help, number_text
from app.text.plain import one_line
from app.views.pairs.filters import ANY_FINDING, sort_by, sorted_by
from app.views.pairs.nothing import show_nothing
from app.widgets.row_list import Cell, Column, Row, show_rows
from lab.pairs import Pair, PairStore, answer_text, prompt_text
from lab.pairs.checks import Finding
from lab.pairs.query import PairQuery

SHEET = 25
"""Pairs on one page of the list."""
EXCERPT = 140
"""Most characters of a text in the list."""
WHOLE = 600
"""Most characters of a text shown under the mouse."""
ALWAYS_FALLING = ("recent",)
TICKED = "pairs.ticked"
"""In the session: the ticked pairs by the path of their store."""


@dataclass(frozen=True)
class Listed:
    """The page of the list that is shown.

    Attributes:
        query: What is listed.
        ids: The pairs on the page.
        total: Pairs that match the query.
        sheet: Number of the page, from 1.
        before: The pair before the first of them, or None.
        after: The pair after the last of them, or None.
    """

    query: PairQuery
    ids: list[str]
    total: int
    sheet: int
    before: str | None
    after: str | None


def show_list(store: PairStore, query: PairQuery, total: int, *, narrow: bool) -> Listed:
    """Draw the page of the list that the address names, and return it.

    Args:
        store: The pair set.
        query: What to list.
        total: Pairs that match the query.
        narrow: Show fewer columns, because an opened pair stands beside the list.
    """
    sheets = max(1, -(-total // SHEET))
    wanted = st.query_params.get("sheet", "1")
    sheet = min(int(wanted), sheets) if wanted.isdecimal() and len(wanted) < 16 and int(wanted) else 1
    first = (sheet - 1) * SHEET
    pairs, _ = store.page(query, max(0, first - 1), SHEET + (2 if first else 1))
    before = pairs.pop(0).id if first and pairs else None
    shown = pairs[:SHEET]
    listed = Listed(query, [pair.id for pair in shown], total, sheet, before, pairs[SHEET].id if len(pairs) > SHEET else None)
    if not shown:
        empty = "This set has no pairs." if query == PairQuery() else "No pair matches: change the search or a filter."
        show_nothing(store, query, empty)
        return listed
    _rows(store, shown, listed, narrow)
    if sheets > 1:
        # The address holds the page; the widget is recreated for each page.
        st.pagination(sheets, default=sheet, key=(key := f"sheet.{sheet}.{sheets}"), on_change=_turn, args=(key,))
    return listed


def count_words(total: int, size: int, query: PairQuery) -> str:
    """Return how many pairs are listed, in words."""
    state = "" if query.state in ("current", "all") else f"{query.state} "
    count = f"{total:,} {state}{'pair' if total == 1 else 'pairs'}"
    filtered = replace(query, state="current", sort="position", descending=False) != PairQuery()
    return f"{count} that match, of {size:,}" if filtered else count


def _turn(widget: str) -> None:
    put(sheet=str(st.session_state[widget]))


def _rows(store: PairStore, pairs: Sequence[Pair], listed: Listed, narrow: bool) -> None:
    query, numbers = listed.query, _number_columns(listed.query)
    values = store.numbers([pair.id for pair in pairs]) if numbers else {}
    columns = [
        Column(
            "State",
            "state",
            "recent",
            "3.5rem" if narrow else "5.5rem",
            "Changes of the pair, and its tags. Sort by the latest edit.",
        )
    ]
    checked = store.findings_of([pair.id for pair in pairs]) if query.finding else {}
    columns += [Column("Finding", help="What the checks found in the pair.", room=32)] if query.finding else []
    columns += [Column("Prompt", sort="prompt_words"), Column("Chosen", sort="chosen_words")]
    columns += [] if narrow else [Column("Rejected", sort="rejected_words")]
    columns += [Column(number_heading(name), "number", name, "6.5rem", number_help(name)) for name in numbers]
    rows = [
        Row(
            pair.id,
            [
                Cell(_state(pair), whole=_state(pair)),
                *([_findings(checked.get(pair.id, []), query.finding)] if query.finding else []),
                *(_cell(text, query.text) for text in texts[: len(texts) - narrow]),
                *(Cell(number_text(values.get(pair.id, {}).get(name))) for name in numbers),
            ],
        )
        for pair in pairs
        for texts in [(prompt_text(pair.prompt), answer_text(pair.chosen), answer_text(pair.rejected))]
    ]
    opened = st.query_params.get("pair")
    if opened in listed.ids:
        st.session_state["pairs.row"] = listed.ids.index(opened)
    show_rows(
        rows,
        columns,
        key="pairs.list",
        label=f"Pairs of {store.name}",
        noun="pair",
        opened=opened,
        ticked=[id for id in listed.ids if id in ticked(store)],
        sort=query.sort,
        descending=query.descending or query.sort in ALWAYS_FALLING,
        on_open=lambda id: open_pair(store, id),
        on_tick=lambda page, ids: _tick(store, page, ids),
        on_sort=_sort,
    )


def _number_columns(query: PairQuery) -> list[str]:
    """Return the numbers shown as columns: those that the list is sorted or filtered by."""
    names = [query.sort, *(limits.name for limits in query.numbers)]
    return [name for name in dict.fromkeys(names) if name not in ("position", "recent")]


def _state(pair: Pair) -> str:
    words = ["dropped"] if pair.dropped else []
    words += [f"v{pair.version}"] if pair.version > 1 else []
    words += ["note"] if pair.note else []
    return " ".join([*words, *(f"#{one_line(tag)}" for tag in pair.tags)])


def _findings(findings: Sequence[Finding], wanted: str) -> Cell:
    """Return the sentences of the wanted findings; of "any", each with the title of its check."""
    if wanted == ANY_FINDING:
        words = [f"{check_title(finding.check)}: {finding.sentence}" for finding in findings]
    else:
        words = [finding.sentence for finding in findings if finding.check == wanted]
    return Cell(one_line(" ".join(words)[:EXCERPT]), whole=one_line(" ".join(words)[:WHOLE]))


def _cell(text: str, search: str) -> Cell:
    shown, spans = excerpt(text, search, EXCERPT)
    return Cell(shown, spans, one_line(text[:WHOLE]))


def open_pair(store: PairStore, id: str | None) -> None:
    """Open a pair of the list, or close the opened one."""
    put(pair=id)
    remember_pair(store.location, id)


def _sort(name: str) -> None:
    """Sort by a column; by the column that the list is sorted by already, in the other direction."""
    before, descending = sorted_by()
    sort_by(name, descending=not descending if before == name else False)


def ticked(store: PairStore) -> list[str]:
    """Return the ticked pairs of this set, on every page of the list."""
    return st.session_state.get(TICKED, {}).get(store.location, [])


def tick(store: PairStore, ids: Sequence[str]) -> None:
    """Replace the ticked pairs of this set."""
    st.session_state.setdefault(TICKED, {})[store.location] = list(ids)


def _tick(store: PairStore, page: Sequence[str], ids: Sequence[str]) -> None:
    kept = [id for id in ticked(store) if id not in page]
    tick(store, [*kept, *(id for id in page if id in ids)])
