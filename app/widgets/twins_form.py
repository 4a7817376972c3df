"""The form that starts twin runs: two objectives, the same start, the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

import lab
from app.pages import COMPARE
from app.state import pair_sets
from app.state.access import WHY, may_edit
from app.state.jobs import Job, show_progress
from app.state.navigation import leave_for
from app.state.recipe import build_objective
from app.text.labels import objective_label
from app.text.plain import plain
from app.widgets.forms import grid, objective_fields
from lab.objectives import OBJECTIVES
from lab.progress import StageProgress
from lab.run.config import TrainConfig
from lab.run.handle import Run
from lab.store.folder import step_of

NEW, LIKE, BRANCH, ONE = "new", "like", "branch", "one"
WAYS = {
    NEW: "New runs on the embedded world",
    LIKE: "New runs with the settings of a run",
    BRANCH: "Branches from a run's checkpoint",
    ONE: "One more twin of an existing run",
}
"""Starting points of twin runs, with their labels in the form."""

EXECUTORS = {"auto": "Automatic", "process": "Separate processes"}
"""Labels of the executors in the form."""

SHARED = ("steps", "batch_size", "learning_rate", "seed")
"""Settings in the form; all others are the defaults, or those of the chosen run. Branches keep their seed."""

JOB = "twins.starting"


def form(runs: Sequence[Run], chosen: Sequence[Run]) -> None:
    """Draw the form and its button; the Compare page opens once the twins are started."""
    if not may_edit():
        st.info(WHY)
        return
    if _starting():
        return
    st.caption(
        "Twins start from the same weights and see the same batches in the same order, so every difference between them is caused "
        "by their objectives. They train one after the other: on one device two at once take as long and need twice the memory."
    )
    ways = list(WAYS) if runs else [NEW]
    way = st.radio("Start from", ways, format_func=WAYS.__getitem__, horizontal=True, key="twins.way", persist_state="session")
    run = at = None
    if way != NEW:
        names = {each.dir.name: each for each in (*chosen, *runs)}
        one, other = st.columns([3, 1])
        run = names[one.selectbox("Run", list(names), key="twins.run", persist_state="session")]
        if way == BRANCH:
            steps = [step_of(path) for path in run.checkpoints()]
            if not steps:
                st.caption("This run has no checkpoint yet; choose another run, or wait for its first checkpoint.")
                return
            at = other.selectbox("From step", steps[::-1], format_func=lambda step: f"{step:,}", key=f"twins.at.{run.dir.name}")
    specs = [_objective(letter, first) for letter, first in (("A", "dpo"), ("B", "sgdpo"))[(1 if way == ONE else 0) :]]
    settings = {} if way == ONE else _settings(run, at)
    one, other = st.columns(2)
    queue = one.toggle(
        "Queue",
        value=True,
        key="twins.queue",
        persist_state="session",
        help="`queue`: one twin trains after the other. Off: they start at once and share the device.",
    )
    executor = other.radio(
        "Runs in",
        list(EXECUTORS),
        format_func=EXECUTORS.__getitem__,
        horizontal=True,
        key="twins.executor",
        persist_state="session",
        help="`executor`: separate processes continue when the dashboard is closed.",
    )
    started: dict[str, Any] = {"queue": queue, "executor": executor}
    if st.button("Start the twin" if way == ONE else "Start the twins", type="primary", icon=":material/join:"):
        try:
            objectives = [build_objective(spec) for spec in specs]
        except ValueError as error:
            st.error(plain(str(error)))
            return
        starts: dict[str, dict[str, Any]] = {LIKE: {"like": run}, BRANCH: {"branch_from": run, "at": at}}
        begins = starts.get(way, {})
        if way == ONE:
            assert run is not None
            st.session_state[JOB] = Job(lambda progress: _one_more(run, objectives[0], started, progress))
        else:
            st.session_state[JOB] = Job(lambda progress: start(objectives, progress, **begins, **settings, **started))
        st.rerun(scope="app")


def start(objectives: Sequence[Any], progress: StageProgress, **given: Any) -> list[str]:
    """Start twins; return the names of their folders."""
    if not given.keys() & {"like", "branch_from"}:
        pair_sets.await_worlds([str(given.get(name, pair_sets.WORLD)) for name in ("pairs", "model")], progress)
    progress("reading the pairs", 1.0)
    return [run.dir.name for run in lab.train_twins(objectives, progress=progress, **given)]


def _one_more(run: Run, objective: Any, started: dict[str, Any], progress: StageProgress) -> list[str]:
    return [run.dir.name, lab.train_twin(run, objective, progress=progress, **started).dir.name]


def _starting() -> bool:
    """Return whether twins are being started; draw the progress, and open the Compare page when it is done."""
    job: Job[list[str]] | None = st.session_state.get(JOB)
    if job is None:
        return False
    if not job.done.wait(0.2):
        show_progress(job)
        return True
    del st.session_state[JOB]
    if job.error is not None:
        st.error(plain(f"The twins could not be started: {job.error}"))
        return False
    return leave_for(COMPARE, {"runs": ",".join(job.result)})


def _objective(letter: str, first: str) -> dict[str, Any]:
    """Draw widgets for one twin's objective; return its specification."""
    with st.container(border=True):
        names = sorted(OBJECTIVES)
        name = st.selectbox(
            f"Objective of {letter}",
            names,
            index=names.index(first),
            format_func=objective_label,
            key=f"twins.{letter}.objective",
            persist_state="session",
        )
        return {"name": name, **objective_fields(OBJECTIVES[name], {}, f"twins.{letter}.{name}")}


def _settings(run: Run | None, at: int | None) -> dict[str, Any]:
    """Draw the settings that both share, at first those of `run` or the defaults; return those that were changed."""
    config = run.manifest["config"] if run else {}
    branches = at is not None or (run is not None and "branch" in run.manifest)
    fields = {name: TrainConfig.model_fields[name] for name in SHARED if name != "seed" or not branches}
    usual = {name: config.get(name, field.default) for name, field in fields.items()}
    if at is not None and usual["steps"] <= at:
        usual["steps"] += at
    values = grid(fields, usual, f"twins.{run.dir.name if run else ''}.{at}")
    return {name: value for name, value in values.items() if run is None or value != config.get(name)}
