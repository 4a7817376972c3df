"""Experiments as groups of the list: one line for all runs of an experiment, which opens to its runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app.text.plain import one_line
from app.text.run_text import count_of
from app.widgets.row_list import Cell, Row
from lab.experiments import Experiment, open_experiment
from lab.run.listing.summary import RunSummary
from lab.store import RunError

PREFIX = "experiment:"
"""Beginning of the ids of rows that stand for an experiment."""

TONES = {"running": "green", "paused": "orange", "stopping": "orange", "failed": "red", "interrupted": "red", "finished": "blue"}
"""Colour of an experiment's state; gray for others."""

_experiments: dict[str, Experiment] = {}
"""Opened experiments by name: their declarations are read again when they change."""


@dataclass(frozen=True)
class Group:
    """An experiment in the list, with those of its runs that match the filter."""

    name: str
    runs: tuple[RunSummary, ...]
    opened: bool

    @property
    def id(self) -> str:
        """Id of the group's row."""
        return f"{PREFIX}{self.name}"


Item = Group | RunSummary


def grouped(runs: Sequence[RunSummary], names: Mapping[str, str]) -> list[Item]:
    """Return the lines of the list: an experiment stands in the place of its first run, followed by its runs if it is opened.

    Args:
        runs: The runs.
        names: Name of the experiment of each run that belongs to one, by the name of the run's folder.
    """
    opened = opened_groups()
    members: dict[str, list[RunSummary]] = {}
    for run in runs:
        if run.folder.name in names:
            members.setdefault(names[run.folder.name], []).append(run)
    items: list[Item] = []
    for run in runs:
        name = names.get(run.folder.name)
        if name is None:
            items.append(run)
        elif name in members:
            group = Group(name, tuple(members.pop(name)), name in opened)
            items += [group, *(group.runs if group.opened else ())]
    return items


def opened_groups() -> list[str]:
    """Return the names of the opened experiments in the address."""
    return st.query_params.get_all("open")


def toggle(id: str) -> None:
    """Open or close the group of a row."""
    name, opened = id.removeprefix(PREFIX), opened_groups()
    st.query_params["open"] = [other for other in opened if other != name] if name in opened else [*opened, name]


def row(group: Group, *, filtered: bool = False) -> Row:
    """Return the row of a group: its name, its progress and, where a filter leaves some out, how many of its runs are listed."""
    state, line = _progress(group.name)
    listed = f" ({count_of(len(group.runs), 'run')} listed)" if filtered and line else ""
    text = f"{'▾' if group.opened else '▸'} {group.name}: {line or count_of(len(group.runs), 'run')}{listed}"
    whole = f"{group.name}: {count_of(len(group.runs), 'run')} listed{f', {line}' if line else ''}"
    return Row(group.id, [Cell(one_line(text), whole=one_line(whole), tone=TONES.get(state, "gray"))], heading=True)


def _progress(name: str) -> tuple[str, str]:
    """Return an experiment's state, and its progress in one line; both empty if it cannot be read."""
    with contextlib.suppress(RunError, OSError):  # deleted or damaged: its runs are listed all the same
        if name not in _experiments:
            _experiments[name] = open_experiment(name)
        state = _experiments[name].state()
        return state.state, state.line
    _experiments.pop(name, None)
    return "", ""


def id_of(item: Item) -> str:
    """Return the id of a line's row: of a run, its folder's name."""
    return item.id if isinstance(item, Group) else item.folder.name


def is_ticked(item: Item, ticked: Sequence[str]) -> bool:
    """Return whether a run, or every run of a group, is ticked."""
    return all(run.folder.name in ticked for run in (item.runs if isinstance(item, Group) else (item,)))


def ticked_after(before: Sequence[str], ids: Sequence[str], page: Mapping[str, Item]) -> list[str]:
    """Return the ticked runs after ticks on a page of the list.

    Args:
        before: Folder names of the runs that were ticked, on all pages.
        ids: Ids of the rows of the page that are ticked now.
        page: The lines of the page, by the id of their row.
    """
    names = [name for name in before if name not in page]
    names += [id for id in ids if isinstance(page.get(id), RunSummary)]
    for item in page.values():
        if isinstance(item, Group) and (item.id in ids) != is_ticked(item, before):
            members = [run.folder.name for run in item.runs]
            names = [*(name for name in names if name not in members), *(members if item.id in ids else ())]
    return list(dict.fromkeys(names))
