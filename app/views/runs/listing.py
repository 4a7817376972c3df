"""The list of runs: one page of it, its columns, and which runs are ticked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import streamlit as st

from app.state.address import put
from app.state.current_run import CHOSEN, label
from app.text.plain import one_line
from app.text.run_text import STATES, duration, objective_name, parameters
from app.views.runs import groups
from app.views.runs.filters import RISING, chosen_curve, chosen_numbers, number_of, sort_by, sorted_by, title
from app.widgets.row_list import Cell, Column, Room, Row, show_rows
from lab.experiments import experiments_of_runs
from lab.plots import entry
from lab.run.listing.query import RunQuery
from lab.run.listing.summary import RunSummary

SHEET = 25
"""Runs on one page of the list."""

TICKED = "runs.ticked"
"""In the session: folder names of the ticked runs, on every page of the list."""

ROOMS: tuple[Room, ...] = (0, 46, 62, 78)
"""Width of the list from which the first, second, third and each further number is shown, so that names keep room."""

STOPPING = ("Stopping", "orange", "stop")


def show_list(runs: Sequence[RunSummary], known: Sequence[RunSummary], query: RunQuery) -> None:
    """Draw the page of the list that the address names.

    Args:
        runs: The runs that match, in their order.
        known: All known runs.
        query: What is listed.
    """
    experiments = experiments_of_runs() if query_groups() else {}
    items: Sequence[groups.Item] = groups.grouped(runs, experiments)
    sheets = max(1, -(-len(items) // SHEET))
    wanted = st.query_params.get("sheet", "1")
    sheet = min(int(wanted), sheets) if wanted.isdecimal() and len(wanted) < 16 and int(wanted) else 1
    shown = items[(sheet - 1) * SHEET : sheet * SHEET]
    numbers, curve = chosen_numbers(known), chosen_curve(known)
    tagged = any(run.labels.tags for run in known)
    columns = _columns(numbers, curve, tagged)
    page = {groups.id_of(item): item for item in shown}
    members = Counter(experiments.get(run.folder.name) for run in known)
    show_rows(
        [
            groups.row(item, filtered=len(item.runs) < members[item.name])
            if isinstance(item, groups.Group)
            else _row(item, experiments, numbers, curve, tagged)
            for item in shown
        ],
        columns,
        key="runs.list",
        label="Runs",
        noun="run",
        opened=st.query_params.get("run"),
        ticked=[name for name, item in page.items() if groups.is_ticked(item, ticked())],
        sort=query.sort,
        descending=query.descending,
        on_open=lambda id: groups.toggle(id) if id.startswith(groups.PREFIX) else open_run(id),
        on_tick=lambda _, ids: tick(groups.ticked_after(ticked(), ids, page)),
        on_sort=_sort,
    )
    if sheets > 1:
        st.pagination(sheets, default=sheet, key=(key := f"sheet.{sheet}.{sheets}"), on_change=_turn, args=(key,))


def _columns(numbers: Sequence[str], curve: str, tagged: bool) -> list[Column]:
    """Return the columns; that of the tags only if a run has one."""
    return [
        Column("State", "state", "state", "6.5rem"),
        Column("Name", sort="name", help="The folder's name, or the one given on this page. Sort by name."),
        Column("Objective", sort="objective", width="6.5rem", room=32),
        Column("Pairs", sort="pairs", width="7rem", room=94),
        Column("Model", sort="model", width="7rem", room=94),
        *([Column("Tags", sort="tags", width="7rem", room=62)] if tagged else []),
        Column("Steps", "number", "step", "5rem", room=46),
        Column(title(curve), "curve", None, "7rem", f"{_meaning(curve)} Each curve has a scale of its own.", room=46),
        *(Column(title(name), "number", name, "5.5rem", _meaning(name), room=ROOMS[min(at, 3)]) for at, name in enumerate(numbers)),
        Column("Made", "number", "created", "5rem", room=70),
    ]


def _meaning(name: str) -> str:
    known = entry(name)
    return f"{known.title}. {known.symbol}: {known.meaning}"


def _row(run: RunSummary, experiments: Mapping[str, str], numbers: Sequence[str], curve: str, tagged: bool) -> Row:
    """Return the row of a run; below the line of its experiment, the name leaves that of the experiment out."""
    word, colour, _ = STOPPING if run.stopping else STATES[run.state]
    folder = run.folder.name
    name = run.name.removeprefix(f"{experiments.get(folder, '')}: ")
    archived = " (archived)" if run.labels.archived else ""
    left = f", about {duration(run.remaining)} left" if run.remaining else ""
    note = f"\n{run.labels.note}" if run.labels.note else ""
    step = f"{run.step:,}" if run.step == run.steps else f"{run.step:,} / {run.steps:,}"
    line, tags = run.sparklines.get(curve), one_line(", ".join(run.labels.tags))
    return Row(
        folder,
        [
            Cell(word, whole=one_line(run.error or f"{word}{left}"), tone=colour),
            Cell(f"{one_line(name)}{archived}", whole=f"{label(run)}{archived}{note}"),
            Cell(objective_name(str(run.objective["name"])), whole=parameters(run.objective)),
            Cell(one_line(run.pairs), whole=one_line(run.pairs)),
            Cell(one_line(run.model.rstrip("/").rpartition("/")[2]), whole=one_line(run.model)),
            *([Cell(tags, whole=tags)] if tagged else []),
            Cell(step, whole=f"{run.step:,} of {run.steps:,} steps{left}"),
            Cell("", curve=(line[0], [value if math.isfinite(value) else None for value in line[1]]) if line and line[0] else None),
            *(Cell(number_text(number_of(run, number))) for number in numbers),
            Cell(made(run.created), whole=f"{datetime.fromtimestamp(run.created):%-d %B %Y, %H:%M:%S}"),
        ],
    )


def number_text(value: float | None) -> str:
    """Return a number with four significant digits; empty without one."""
    return "" if value is None else f"{value:.4g}"


def made(created: float) -> str:
    """Return a time, seconds since 1970, in few letters: that of today, the day of this year, or the date."""
    moment, now = datetime.fromtimestamp(created), datetime.now()
    if moment.date() == now.date():
        return f"{moment:%H:%M}"
    return f"{moment:%-d %b}" if moment.year == now.year else f"{moment:%Y-%m-%d}"


def open_run(name: str | None) -> None:
    """Open the details of a run (its folder's name) beside the list, or close them. Other pages show the run, too."""
    put(run=name)
    if name is not None:
        st.session_state[CHOSEN] = name


def _sort(name: str) -> None:
    before, descending = sorted_by()
    sort_by(name, descending=not descending if before == name else name not in RISING)


def _turn(widget: str) -> None:
    put(sheet=str(st.session_state[widget]))


def query_groups() -> bool:
    """Return whether the runs of an experiment are shown as one line."""
    return "ungrouped" not in st.query_params


def ticked() -> list[str]:
    """Return the folder names of the ticked runs, on every page of the list."""
    return st.session_state.get(TICKED, [])


def tick(names: Sequence[str]) -> None:
    """Replace the ticked runs."""
    st.session_state[TICKED] = list(names)
