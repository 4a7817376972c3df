"""Beside the form: its runs and their time, the same experiment as YAML and Python, and the button that starts it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from app.pages import EXPERIMENTS
from app.state import pair_sets
from app.state.jobs import Job, require, show_progress
from app.state.navigation import leave_for
from app.text.plain import plain
from app.text.run_text import count_of, duration
from app.views.experiments.draft import Draft, declaration_of
from app.views.experiments.fields import PREFIX, key
from lab import sweep_processes, sweeping
from lab.experiments import (
    Content,
    Declaration,
    ExperimentFolder,
    PairSet,
    PlannedRun,
    as_python,
    as_yaml,
    check_comparison,
    check_recorded,
    plan,
    sources_of,
    variants,
)
from lab.pairs import PairsError, is_store
from lab.progress import StageProgress
from lab.run.config import ConfigError
from lab.store import RunError
from lab.world import is_world_name

STARTING = f"{PREFIX}starting"
"""In the session: the job that starts the experiment."""
LOOKED, ESTIMATE = f"{PREFIX}looked", f"{PREFIX}estimate"
"""In the session: the last look ahead, and the last estimate of the time, each with what it belongs to."""
MOST_LISTED = 12
MOMENT = "2026-01-31T12:00:00"
"""Any time for chat templates: the number of runs does not depend on it."""


@dataclass(frozen=True)
class Ahead:
    """The runs that a declaration would train.

    Attributes:
        runs: All runs.
        to_do: Those that are still to be trained.
        lost: Finished runs of the same experiment that it leaves out.
        content: What would be stored; None where pairs or a model have to be opened first.
    """

    runs: Sequence[PlannedRun]
    to_do: Sequence[PlannedRun]
    lost: int = 0
    content: Content | None = None


def variants_of(draft: Draft) -> list[str]:
    """Return the labels of the variants that a draft means; none if it means none."""
    try:
        return variants(_planned(declaration_of(replace(draft, baseline=""))))
    except ConfigError:
        return []


def _planned(declaration: Declaration) -> list[PlannedRun]:
    sets = {source: PairSet("", 0, "") for source in sources_of(declaration, "pairs")}
    return plan(declaration, sets, template_time=MOMENT)


def panel(draft: Draft, source: str | None) -> None:
    """Draw name, number of runs, time, and the button that starts them. source: the experiment that is changed, or None."""
    st.subheader("Start", anchor=False)
    name = st.text_input(
        "Name", draft.name, key=key("name"), placeholder="made from the time", persist_state="session",
        help="Letters, digits, '.', '-' and '_'. It is the name on the command line, too.",
    ).strip()  # fmt: skip
    workers, keep = _running(source)
    try:
        declaration = declaration_of(draft)
        folder, declaration = sweeping.declared(**arguments(declaration), name=name or None)
        ahead = _ahead(name, folder, declaration)
    except (ConfigError, PairsError, RunError, OSError) as error:
        st.error(plain(error))
        st.button("Start the runs", type="primary", disabled=True, width="stretch")
        return
    _runs(ahead)
    if ahead.lost:
        st.warning(f"{count_of(ahead.lost, 'finished run')} would no longer be part of the experiment; the folders stay.")
    if folder.exists and name != source:
        st.warning(
            plain(f"There is an experiment {name} already: this replaces its declaration and keeps runs with equal settings.")
        )
    _time(name, folder, declaration, ahead, workers)
    if st.button(_label(ahead, source), type="primary", width="stretch"):
        st.session_state[STARTING] = Job(lambda progress: _start(folder, declaration, workers, keep, progress))
        st.rerun()
    with st.expander("The same experiment as YAML"):
        st.code(as_yaml(name or "experiment", declaration), language="yaml", wrap_lines=True)
        st.caption("Save it as experiment.yaml and run it with:")
        st.code("python -m lab sweep experiment.yaml", language="bash")
    with st.expander("The same experiment in Python"):
        st.code(as_python(name or "experiment", declaration), language="python", wrap_lines=True)


def arguments(declaration: Declaration) -> dict[str, Any]:
    """Return a declaration as arguments of `lab.sweeping.declared`, which makes paths absolute."""
    content = declaration.as_json()
    given = {key: content[key] for key in ("with_seed", "compare") if content[key]}
    return {"objectives": content["objectives"], "seeds": content["seeds"], **content["settings"], **given}


def _running(source: str | None) -> tuple[int | None, bool]:
    """Draw how many runs train at once, and whether their checkpoints are kept; return both."""
    workers = st.number_input(
        "Runs at once", value=None, step=1, key=key("workers"), placeholder="automatic", persist_state="session",
        help="`workers`: empty for one per core with a small model on CPUs, else one. It changes no number of the results.",
    )  # fmt: skip
    keep = st.toggle(
        "Keep checkpoints", True, key=key("keep"), persist_state="session",
        help="`keep_checkpoints`: off deletes those of each finished run, which are most of its folder. Numbers are kept.",
    )  # fmt: skip
    return workers, keep


def _ahead(name: str, folder: ExperimentFolder, declaration: Declaration) -> Ahead:
    """Return what a declaration would train; kept until the form or the experiment changes."""
    at = (name, json.dumps(declaration.as_json()), folder.changed if folder.exists else 0, _is_quick(folder, declaration))
    kept = st.session_state.get(LOOKED)
    if kept is None or kept[0] != at:
        kept = st.session_state[LOOKED] = (at, _look(folder, declaration, quick=at[-1]))
    ahead: Ahead = kept[1]
    return ahead


def _look(folder: ExperimentFolder, declaration: Declaration, *, quick: bool) -> Ahead:
    done = folder.recorded() if folder.exists else set()
    if not quick:
        runs = _planned(declaration)
        check_comparison(declaration.compare, variants(runs))
        check_recorded(declaration.compare, [run.config for run in runs], oracle=True)  # whether there is one is not known yet
        return Ahead(runs, runs)
    content = sweeping.resolved(folder, declaration)
    known = {run.key for run in content.runs}
    return Ahead(content.runs, [run for run in content.runs if run.key not in done], len(done - known), content)


def _is_quick(folder: ExperimentFolder, declaration: Declaration) -> bool:
    """Whether pairs and models are at hand, so that the runs are known without reading a file or building a world."""
    known: Mapping[str, PairSet] = folder.read().pair_sets if folder.exists else {}
    pairs = all(source in known or is_store(source) or _is_open(source) for source in sources_of(declaration, "pairs"))
    return pairs and all(map(_has_quick_digest, sources_of(declaration, "model")))


def _is_open(source: str) -> bool:
    return is_world_name(source) and pair_sets.opened_world(source) is not None


def _has_quick_digest(model: str) -> bool:
    return is_world_name(model) or Path(model).expanduser().exists()


def _runs(ahead: Ahead) -> None:
    """Draw the number of runs and the variants."""
    labels = variants(ahead.runs)
    seeds = len(ahead.runs) // len(labels)
    left = len(ahead.runs) - len(ahead.to_do)
    done = f" {left:,} of them are done, {len(ahead.to_do):,} are left." if left else ""
    st.markdown(
        f"**{count_of(len(ahead.runs), 'run')}**: {count_of(len(labels), 'variant')} with {count_of(seeds, 'seed')} each.{done}"
    )
    more = [f"and {len(labels) - MOST_LISTED:,} more"] if len(labels) > MOST_LISTED else []
    st.code("\n".join([*labels[:MOST_LISTED], *more]), language=None, wrap_lines=True)
    if seeds == 1 and len(labels) > 1:
        st.caption("With one seed no interval is possible: nothing says whether a difference is more than noise.")


def _time(name: str, folder: ExperimentFolder, declaration: Declaration, ahead: Ahead, workers: int | None) -> None:
    """Draw the time that the runs take: from finished ones of the same kind, else measured on request."""
    if not ahead.to_do:
        return
    at = (name, json.dumps(declaration.as_json()), workers)
    kept = st.session_state.get(ESTIMATE)
    if kept is None or kept[0] != at:
        seconds, basis = _measured(ahead, workers)
        if seconds is not None:
            st.text(f"Time: about {duration(seconds)} ({basis})")
            return
        if st.button(
            "Estimate the time", width="stretch",
            help="Trains a few steps of the first run on trial, with its evaluations, as --dry-run does; nothing of it is kept.",
        ):  # fmt: skip
            st.session_state[ESTIMATE] = (at, Job(lambda progress: _estimate(folder, declaration, workers, progress)))
            st.rerun()
        return
    job: Job[tuple[float | None, str]] = kept[1]
    if not job.done.wait(0.2):
        show_progress(job)
    elif job.error is not None:
        st.error(plain(f"The time cannot be estimated: {job.error}"))
    else:
        seconds, basis = job.result
        st.text(f"Time: {'not known' if seconds is None else f'about {duration(seconds)}'} ({basis})")


def _measured(ahead: Ahead, workers: int | None) -> tuple[float | None, str]:
    if ahead.content is None:
        return None, ""
    content = ahead.content if workers is None or workers < 1 else replace(ahead.content, workers=workers)
    return sweep_processes.measured_seconds(content, ahead.to_do)


def _estimate(
    folder: ExperimentFolder, declaration: Declaration, workers: int | None, progress: StageProgress
) -> tuple[float | None, str]:
    """Open pairs and models and estimate the time; the work of a Job."""
    pair_sets.await_worlds([*sources_of(declaration, "pairs"), *sources_of(declaration, "model")], progress)
    content = sweeping.resolved(folder, declaration, workers=workers, progress=progress)
    done = folder.recorded() if folder.exists else set()
    progress("training a few steps of the first run on trial", 0.5)
    return sweep_processes.estimated_seconds(content, [run for run in content.runs if run.key not in done])


def _label(ahead: Ahead, source: str | None) -> str:
    if source is None:
        return f"Start {count_of(len(ahead.to_do), 'run')}"
    return f"Save, and start {count_of(len(ahead.to_do), 'run')}" if ahead.to_do else "Save"


def _start(folder: ExperimentFolder, declaration: Declaration, workers: int | None, keep: bool, progress: StageProgress) -> str:
    """Store the declaration and start its runs; return the experiment's name. The work of a Job."""
    pair_sets.await_worlds([*sources_of(declaration, "pairs"), *sources_of(declaration, "model")], progress)
    content = sweeping.store_declaration(folder, declaration, workers=workers, keep_checkpoints=keep, progress=progress)
    if {run.key for run in content.runs} - folder.recorded():
        progress("starting the process that trains the runs", 1.0)
        sweeping.start_driver(folder)
    return folder.name


def follow() -> None:
    """Draw the progress of starting an experiment, then open it."""
    job: Job[str] | None = st.session_state.get(STARTING)
    if job is None:
        return
    if job.error is not None:  # it stays on the page until the next start
        st.error(plain(f"The experiment could not be started: {job.error}"))
        return
    name = require(job, retry=lambda: None)
    del st.session_state[STARTING]
    leave_for(EXPERIMENTS, {"experiment": name})
