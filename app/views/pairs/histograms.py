"""Histograms of numbers of the pairs; a brushed range filters the list."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.state.address import put
from app.text.numbers_of_pairs import number_label
from app.views.pairs.filters import set_range
from app.widgets import figure
from lab.pairs import PairStore
from lab.pairs.query import SORTS, PairQuery
from lab.plots.pair_set import histogram

FIRST = ("chosen_words", "length_difference")
"""Numbers that are drawn first."""
COLUMNS = 3


def show_histograms(store: PairStore, query: PairQuery) -> None:
    """Draw the histograms of the chosen numbers over the pairs that match every other filter."""
    names = [*(name for name in SORTS if name not in ("position", "recent")), *store.number_names()]
    addressed = [name for name in st.query_params.get_all("draw") if name in names]
    chosen = st.multiselect(
        "Histograms of",
        names,
        addressed or list(dict.fromkeys([*FIRST, *(limits.name for limits in query.numbers)])),
        key="pairs.histograms",
        format_func=number_label,
        on_change=lambda: put_drawn(st.session_state["pairs.histograms"]),
        help="Drag over a histogram to list the pairs in that range; a double click takes the range back.",
    )
    for start in range(0, len(chosen), COLUMNS):
        for column, name in zip(st.columns(COLUMNS), chosen[start : start + COLUMNS]):
            with column:
                _histogram(store, query, name)


def put_drawn(names: list[str]) -> None:
    """Keep in the address which histograms are drawn."""
    if names:
        st.query_params["draw"] = names
    else:
        put(draw=None)


def _histogram(store: PairStore, query: PairQuery, name: str) -> None:
    others = replace(query, numbers=tuple(limits for limits in query.numbers if limits.name != name))
    own = next((limits for limits in query.numbers if limits.name == name), None)
    edges, counts = store.histogram(others, name)
    drawn = histogram(
        edges, counts, title=number_label(name), limits=(own.low, own.high) if own else (None, None), dark=figure.dark()
    )
    figure.show(
        drawn, key=f"pairs.histogram.{name}", name=f"pairs-{name.replace('/', '-')}", on_brush=lambda event: _brushed(name, event)
    )


def _brushed(name: str, event: figure.Event) -> None:
    low, high = event["x"] or (None, None)
    set_range(name, low, high)
