"""Which pairs the page lists: search, state, finding, tags, ranges of numbers and order, all kept in the page's address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import quote, unquote

import streamlit as st

from app.state.address import put
from app.text.findings import check_title
from app.text.numbers_of_pairs import number_label, number_text
from app.text.plain import editable, one_line, plain
from lab.pairs import PairStore
from lab.pairs.query import SORTS, NumberRange, PairQuery, State

STATES: Mapping[str, State] = {"All": "current", "Edited": "edited", "Dropped": "dropped"}
REVIEWED = "reviewed"
"""Tag of pairs that were judged in the review mode."""

ANY_FINDING = "any"


def query_bar(store: PairStore) -> PairQuery:
    """Draw the search, the order and the filters in one line; return the query that they make."""
    one, two, three, four = st.columns([3, 4, 3, 5], vertical_alignment="center")
    text = one.text_input(
        "Search",
        key="search",
        bind="query-params",
        on_change=first_sheet,
        placeholder="Search texts, or a pair's id",
        type="search",
        label_visibility="collapsed",
    )
    state = two.segmented_control(
        "Show",
        list(STATES),
        default="All",
        required=True,
        key="show",
        bind="query-params",
        on_change=first_sheet,
        label_visibility="collapsed",
    )
    orders = [*SORTS, *store.number_names()]
    sort, descending = sorted_by()
    sort = sort if sort in orders else "position"
    three.selectbox(
        "Sort by",
        orders,
        orders.index(sort),
        key=(key := f"sort.{sort}"),
        format_func=lambda name: f"Sort: {number_label(name)}",
        on_change=lambda: sort_by(st.session_state[key], descending=descending),
        label_visibility="collapsed",
    )
    with four, st.container(horizontal=True, vertical_alignment="center"):
        st.toggle(
            "Largest first",
            descending,
            key=f"descending.{descending}",
            on_change=lambda: sort_by(sort, descending=not descending),
        )
        with st.popover("Filters", icon=":material/filter_list:"):
            finding, tags, hide_reviewed = _more(store)
    return PairQuery(
        text=text or "",
        state=STATES[state or "All"],
        tags=tuple(tags),
        without_tags=(REVIEWED,) if hide_reviewed and REVIEWED not in tags else (),
        finding=finding,
        numbers=tuple(limits for limits in ranges() if limits.name in orders),
        sort=sort,
        descending=descending,
    )


def sorted_by() -> tuple[str, bool]:
    """Return what the address sorts by, and whether the largest come first."""
    return st.query_params.get("sort", "position"), "descending" in st.query_params


def sort_by(name: str, *, descending: bool) -> None:
    """Sort the list by a number, from its first page on."""
    put(sort=None if name == "position" else name, descending="yes" if descending else None, sheet=None)


def filter_finding(check: str | None) -> None:
    """List the pairs in which a check found something; None lists all."""
    put(finding=check, sheet=None)


def open_set(key: str | None, **more: str | None) -> None:
    """Put another set into the address, without the filters that belong to the pairs of the former one."""
    put(**{"pairs": key, "pair": None, "sheet": None, "range": None, "finding": None, "tag": None, **more})


def _more(store: PairStore) -> tuple[str | None, list[str], bool]:
    """Draw the filters by finding, tag and review; return (check or None, tags, hide reviewed pairs).

    A filter of the address holds also where no pair has the finding or the tag any more: the last one was dropped or mended.
    """
    counts, tags = store.finding_counts(), store.tags()
    finding = st.query_params.get("finding")
    checks = list(dict.fromkeys([None, *([ANY_FINDING] if counts else []), *counts, finding]))
    st.selectbox(
        "Finding",
        checks,
        checks.index(finding),
        key=(check := f"finding.{finding}"),
        format_func=lambda name: _finding_label(name, counts),
        on_change=lambda: filter_finding(st.session_state[check]),
        help="Pairs in which a check found something." if counts else "Run the checks under Evidence first.",
        disabled=not counts and finding is None,
    )
    addressed = st.query_params.get_all("tag")
    known = {editable(tag): tag for tag in tags}
    chosen = [known.get(text, text) for text in dict.fromkeys(addressed)]
    st.multiselect(
        "Tags",
        list(dict.fromkeys([*tags, *chosen])),
        chosen,
        key=(key := f"tags.{chosen}"),
        format_func=lambda tag: f"{one_line(tag)} ({tags.get(tag, 0):,})",
        on_change=lambda: _filter_tags(st.session_state[key]),
        placeholder="any" if tags else "no pair has a tag yet",
        disabled=not tags and not chosen,
    )
    hide = "unreviewed" in st.query_params
    st.toggle(
        "Hide reviewed pairs",
        hide,
        key=f"unreviewed.{hide}",
        on_change=lambda: put(unreviewed=None if hide else "yes", sheet=None),
    )
    return finding, chosen, hide


def _filter_tags(tags: list[str]) -> None:
    if tags:
        st.query_params["tag"] = [editable(tag) for tag in tags]
        first_sheet()
    else:
        put(tag=None, sheet=None)


def _finding_label(name: str | None, counts: Mapping[str, int]) -> str:
    if name is None:
        return "no filter"
    if name == ANY_FINDING:
        return "any finding"
    return f"{one_line(check_title(name))} ({counts.get(name, 0):,})"


def ranges() -> list[NumberRange]:
    """Return the ranges of numbers in the address; what cannot be read is left out."""
    return [limits for text in st.query_params.get_all("range") if (limits := _range(text)) is not None]


def range_text(limits: NumberRange) -> str:
    """Return a range as it is written in the address: name:low:high, an empty number for no bound."""
    low, high = ("" if value is None else f"{value:.6g}" for value in (limits.low, limits.high))
    return f"{quote(limits.name, safe='/')}:{low}:{high}"


def _range(text: str) -> NumberRange | None:
    parts = text.split(":")
    if len(parts) != 3:
        return None
    try:
        low, high = (float(part) if part else None for part in parts[1:])
    except ValueError:
        return None
    return NumberRange(unquote(parts[0]), low, high)


def set_range(name: str, low: float | None, high: float | None) -> None:
    """Filter by a range of one number, in the place of a former range of it; no bounds remove the filter."""
    others = [limits for limits in ranges() if limits.name != name]
    added = [] if low is None and high is None else [NumberRange(name, low, high)]
    if texts := [range_text(limits) for limits in [*others, *added]]:
        st.query_params["range"] = texts
        first_sheet()
    else:
        put(range=None, sheet=None)


def chips(query: PairQuery) -> None:
    """Draw one button per filter by finding, tag, review or range; a press removes that filter."""
    removals: list[tuple[str, str, Callable[[], None]]] = []  # key, label, what removes the filter
    if query.finding:
        name = "any" if query.finding == ANY_FINDING else check_title(query.finding)
        removals.append(("finding", f"Finding {name}", lambda: filter_finding(None)))
    for tag in query.tags:
        removals.append((f"tag.{tag}", f"Tag {tag}", partial(_filter_tags, [other for other in query.tags if other != tag])))
    if REVIEWED in query.without_tags:
        removals.append(("unreviewed", "Not reviewed", lambda: put(unreviewed=None, sheet=None)))
    for limits in ranges():
        removals.append((range_text(limits), _words(limits), partial(set_range, limits.name, None, None)))
    if not removals:
        return
    with st.container(horizontal=True):
        for key, label, remove in removals:
            st.button(plain(label), icon=":material/close:", key=f"filter.{key}", on_click=remove, help="Remove this filter.")


def _words(limits: NumberRange) -> str:
    label, low, high = number_label(limits.name), number_text(limits.low), number_text(limits.high)
    if limits.low is None:
        return f"{label} up to {high}"
    return f"{label} from {low}" if limits.high is None else f"{label} {low} to {high}"


def first_sheet() -> None:
    """Return to the first page of the list."""
    put(sheet=None)
