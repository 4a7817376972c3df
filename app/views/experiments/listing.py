"""The list of experiments with their progress, and the page as it is before the first one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import streamlit as st

from app.pages import EXPERIMENTS
from app.state import pacing
from app.state.access import WHY, may_edit
from app.state.address import put
from app.state.experiments import all_opened
from app.state.navigation import leave_for
from app.text.plain import one_line, plain
from app.text.run_text import duration
from app.views.experiments.states import EXPERIMENT_STATES
from app.widgets.row_list import Cell, Column, Row, show_rows
from lab.experiments import Experiment, ExperimentState
from lab.experiments.experiment import PRESENT

LIVELY, QUIET = 2.0, 5.0
"""Seconds between two drawings of the list while an experiment trains, and while none does."""
COLUMNS = [
    Column("State", "state", "state", "8rem"),
    Column("Name", sort="name"),
    Column("Runs finished", "number", "finished", "7rem"),
    Column("Failed", "number", "failed", "5rem", room=46),
    Column("Remaining", "number", "remaining", "8rem", room=32),
    Column("Variants", "number", "variants", "5.5rem", room=46),
    Column("Seeds", "number", "seeds", "5rem", room=46),
    Column("Objectives", width="14rem", room=62),
    Column("Declared", "number", "declared", "6rem", room=62),
]
OPEN = "experiments.open"
"""In the session: the experiment whose row was pressed."""
RISING = ("name", "state")


def page() -> None:
    """Draw the whole page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("Experiments", anchor=False, width="content")
        st.space("stretch")
        experiments, unreadable = all_opened()
        begun = bool(experiments or unreadable)
        if begun and st.button("New experiment", icon=":material/add:", type="primary", disabled=not may_edit()):
            leave_for(EXPERIMENTS, {"new": "yes"})
    if not may_edit():
        st.info(WHY)
    if not begun:
        _nothing_yet()
        return
    active = any(experiment.active for experiment in experiments)
    st.fragment(_draw, run_every=max(LIVELY if active else QUIET, pacing.shortest_interval()))()


def _draw() -> None:
    if wanted := st.session_state.pop(OPEN, None):
        leave_for(EXPERIMENTS, {"experiment": wanted})
    experiments, unreadable = all_opened()
    sort, descending = _sorted_by()
    states = {experiment.name: experiment.state() for experiment in experiments}
    order = sorted(experiments, key=lambda experiment: _place(experiment, states[experiment.name], sort), reverse=descending)
    show_rows(
        [_row(experiment, states[experiment.name]) for experiment in order],
        COLUMNS,
        key="experiments.list",
        label="Experiments",
        noun="experiment",
        opened=None,
        sort=sort,
        descending=descending,
        on_open=lambda name: st.session_state.__setitem__(OPEN, name),
        on_sort=_sort_by,
    )
    for name, reason in unreadable.items():
        st.warning(plain(f"{name} cannot be read: {reason}"))


def _sorted_by() -> tuple[str, bool]:
    """Return what the address sorts by, and whether the largest come first."""
    wanted = st.query_params.get("sort", "declared")
    return (wanted if wanted in [column.sort for column in COLUMNS] else "declared"), "ascending" not in st.query_params


def _sort_by(name: str) -> None:
    before, descending = _sorted_by()
    falls = not descending if name == before else name not in RISING
    put(sort=None if name == "declared" else name, ascending=None if falls else "yes")


def _place(experiment: Experiment, state: ExperimentState, sort: str) -> Any:
    """Return what an experiment is sorted by."""
    places: dict[str, Callable[[], Any]] = {
        "state": lambda: state.state,
        "name": lambda: experiment.name.lower(),
        "finished": lambda: state.count("finished"),
        "failed": lambda: state.count("failed", "crashed"),
        "remaining": lambda: state.remaining or 0.0,
        "variants": lambda: len(experiment.variants),
        "seeds": lambda: len(experiment.declaration.seeds),
        "declared": lambda: experiment.content.created,
    }
    return places[sort]()


def _row(experiment: Experiment, state: ExperimentState) -> Row:
    word, colour, _ = EXPERIMENT_STATES[state.state]
    failed = state.count("failed", "crashed")
    objectives = one_line(", ".join(dict.fromkeys(str(entry["name"]) for entry in experiment.declaration.objectives)))
    declared = datetime.fromisoformat(experiment.content.created)
    return Row(
        experiment.name,
        [
            Cell(word, whole=one_line(state.message or state.line), tone=colour),
            Cell(one_line(experiment.name), whole=one_line(f"{experiment.name}: {state.line}")),
            Cell(f"{state.count('finished'):,} of {len(state.runs):,}"),
            Cell(f"{failed:,}" if failed else ""),
            Cell(duration(state.remaining) if state.remaining and state.state in PRESENT else ""),
            Cell(f"{len(experiment.variants):,}"),
            Cell(f"{len(experiment.declaration.seeds):,}"),
            Cell(objectives, whole=objectives),
            Cell(f"{declared:%-d %b}", whole=f"{declared:%-d %B %Y, %H:%M}"),
        ],
    )


def _nothing_yet() -> None:
    """Draw the page as it is before the first experiment."""
    st.write(
        "A single run proves little: another seed gives other numbers. An experiment runs every objective with every combination "
        "of settings and every seed, and says in a sentence which differences are more than noise. Declare one, and its progress "
        "and results appear here."
    )
    if st.button("Declare an experiment", icon=":material/science:", type="primary", disabled=not may_edit()):
        leave_for(EXPERIMENTS, {"new": "yes"})
    st.caption("From a terminal:")
    st.code("python -m lab sweep experiment.yaml", language="bash")
    _wait_for_first()


@st.fragment(run_every="2s")
def _wait_for_first() -> None:
    """Draw the page again when an experiment was declared elsewhere."""
    if all_opened()[0]:
        st.rerun(scope="app")
