"""Filter, order and columns of the list of runs, all kept in the page's address."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import streamlit as st

from app.state.address import put
from app.text.run_text import STATES
from lab.plots import entry
from lab.run.listing.query import SORTS, RunQuery, number_names
from lab.run.listing.summary import SPARKLINES, RunSummary

TITLES = {
    "created": "Made",
    "name": "Name",
    "state": "State",
    "objective": "Objective",
    "pairs": "Pairs",
    "model": "Model",
    "step": "Steps",
    "seconds": "Trained for (s)",
    "seed": "Seed",
    "learning_rate": "Learning rate",
    "tags": "Tags",
}
"""Labels of the orders of a list of runs."""

ARCHIVE = {"hidden": False, "shown": None, "only": True}
"""Choices about archived runs, as the address names them, and their value in a query."""

MEASURES = ("eval/oracle_reward", "eval/reward")
KEY_NUMBERS = ("eval/rewards/accuracies", "eval/rewards/margins", *MEASURES, "eval/kl", "rewards/accuracies", "loss")
"""Scalars that are shown unless others are chosen: the first three of them that some run recorded."""

RISING = ("name", "objective", "pairs", "model", "state", "tags")
"""Orders of texts, which begin with A at the first press of their heading."""

SETTINGS = ("learning_rate", "seed", "seconds")
"""Numbers of a run that are no scalars and can be columns, too."""

MOST_NUMBERS = 6

REDRAW = "runs.redraw"
"""In the session: whether a change in the list changes the bar above it, too."""


def title(name: str) -> str:
    """Return the label of an order, or of a scalar."""
    return TITLES[name] if name in SORTS else entry(name).title


def query_bar(runs: Sequence[RunSummary]) -> RunQuery:
    """Draw the search, the order and the filters; return the query that they make. They wrap where the window is narrow."""
    text = st.text_input(
        "Filter",
        key="words",
        bind="query-params",
        on_change=first_sheet,
        placeholder="Filter: words, #tag",
        help="Words in name, tags, note, objective, pairs or model; a word that begins with # is a tag.",
        type="search",
        label_visibility="collapsed",
        width=250,
    )
    states = [state for state in st.query_params.get_all("state") if state in STATES]
    st.multiselect(
        "States",
        list(STATES),
        states,
        key=(state := f"states.{states}"),
        format_func=lambda name: STATES[name][0],
        on_change=lambda: _put_all("state", st.session_state[state]),
        placeholder="Any state",
        label_visibility="collapsed",
        width=190,
    )
    orders = [*SORTS, *number_names(runs)]
    sort, descending = sorted_by()
    sort = sort if sort in orders else "created"
    st.selectbox(
        "Sort by",
        orders,
        orders.index(sort),
        key=(order := f"sort.{sort}"),
        format_func=lambda name: f"Sort: {title(name)}",
        on_change=lambda: sort_by(st.session_state[order], descending=descending),
        label_visibility="collapsed",
        width=190,
    )
    st.toggle(
        "Newest first" if sort == "created" else "Z to A" if sort in RISING else "Largest first",
        descending,
        key=f"order.{descending}",
        on_change=lambda: sort_by(sort, descending=not descending),
    )
    more = sum(name in st.query_params for name in ("since", "until", "archived"))
    with st.popover(f"Filters ({more})" if more else "Filters", icon=":material/filter_list:"):
        since, until, archived = _more()
    with st.popover("Columns", icon=":material/view_column:"):
        _columns(runs)
    return RunQuery(text or "", tuple(states), since, until, archived, sort, descending)


def sorted_by() -> tuple[str, bool]:
    """Return what the address sorts by, and whether the largest come first."""
    return st.query_params.get("sort", "created"), "ascending" not in st.query_params


def sort_by(name: str, *, descending: bool) -> None:
    """Sort the list, from its first page on."""
    st.session_state[REDRAW] = True
    put(sort=None if name == "created" else name, ascending=None if descending else "yes", sheet=None)


def first_sheet() -> None:
    """Return to the first page of the list."""
    put(sheet=None)


def clear() -> None:
    """Remove all filters."""
    st.session_state[REDRAW] = True
    st.session_state["words"] = ""
    put(state=None, since=None, until=None, archived=None, sheet=None)


def _put_all(name: str, values: Sequence[str]) -> None:
    if values:
        st.query_params[name] = list(values)
        first_sheet()
    else:
        put(**{name: None, "sheet": None})


def _more() -> tuple[str, str, bool | None]:
    """Draw the filters by day and archive; return the first day, the last day, and the query's value of `archived`."""
    days = []
    for name, label in (("since", "Made on or after"), ("until", "Made on or before")):
        day = _day(st.query_params.get(name, ""))
        st.date_input(label, day, key=(key := f"{name}.{day}"), on_change=_put_day, args=(name, key))
        days.append(day.isoformat() if day else "")
    wanted = st.query_params.get("archived", "hidden")
    archived = wanted if wanted in ARCHIVE else "hidden"
    st.segmented_control(
        "Archived runs",
        list(ARCHIVE),
        default=archived,
        required=True,
        key=(key := f"archived.{archived}"),
        format_func=str.capitalize,
        on_change=lambda: put(archived=None if (now := st.session_state[key]) == "hidden" else now, sheet=None),
    )
    st.button("Clear all filters", on_click=clear)
    return days[0], days[1], ARCHIVE[archived]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _put_day(name: str, key: str) -> None:
    day = st.session_state[key]
    put(**{name: day.isoformat() if day else None, "sheet": None})


def chosen_numbers(runs: Sequence[RunSummary]) -> list[str]:
    """Return the numbers shown as columns: those in the address, else the first few of `KEY_NUMBERS`; with that of the order.

    Without a choice, the seed is one of them where runs have several.
    """
    known = _numbers(runs)
    names = [name for name in st.query_params.get_all("number") if name in known][:MOST_NUMBERS]
    seed = ["seed"] if len({run.seed for run in runs}) > 1 else []
    names = names or [*[name for name in KEY_NUMBERS if name in known][:3], *seed]
    sort, _ = sorted_by()
    return list(dict.fromkeys([*names, *([sort] if sort in known else [])]))


def _numbers(runs: Sequence[RunSummary]) -> list[str]:
    return [*SETTINGS, *number_names(runs)]


def number_of(run: RunSummary, name: str) -> float | None:
    """Return a setting of a run that is a number, or the latest value of a scalar; None if it has none."""
    return SORTS[name](run) if name in SETTINGS else run.numbers.get(name)


def chosen_curve(runs: Sequence[RunSummary]) -> str:
    """Return the scalar whose curve is drawn in every row."""
    wanted = st.query_params.get("curve", "loss")
    return wanted if wanted in SPARKLINES else "loss"


def _columns(runs: Sequence[RunSummary]) -> None:
    """Draw the choice of numbers, curve and groups."""
    ungrouped = "ungrouped" in st.query_params
    st.toggle(
        "Experiments as one line each",
        not ungrouped,
        key=f"grouped.{ungrouped}",
        on_change=lambda: put(ungrouped=None if ungrouped else "yes", sheet=None),
    )
    known, names = _numbers(runs), chosen_numbers(runs)
    st.multiselect(
        "Numbers (latest value)",
        known,
        names,
        key=(numbers := f"numbers.{names}"),
        format_func=title,
        max_selections=MOST_NUMBERS + 1,
        on_change=lambda: _put_all("number", st.session_state[numbers]),
    )
    curve = chosen_curve(runs)
    st.selectbox(
        "Curve",
        SPARKLINES,
        SPARKLINES.index(curve),
        key=(key := f"curve.{curve}"),
        format_func=title,
        on_change=lambda: put(curve=st.session_state[key]),
    )
