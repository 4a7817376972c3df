"""Buttons that control an experiment: pause, resume, stop, continue, retry failed runs, extend."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.pages import COMPARE, EXPERIMENTS, RUNS
from app.state.access import WHY, may_edit, require_edit
from app.state.jobs import Job, Jobs, show_progress
from app.state.navigation import leave_for
from app.text.labels import objective_label
from app.text.plain import plain
from app.text.run_text import count_of, duration
from lab import sweeping
from lab.comparison import MOST
from lab.experiments import Experiment, ExperimentState, PlannedRun, extended, find_experiment
from lab.objectives import OBJECTIVES
from lab.run.config import ConfigError
from lab.store import RunError
from lab.sweep_processes import measured_seconds

JOBS: Jobs[str, None] = Jobs()
"""Experiments whose runs are being started, by folder."""
DONE = "experiments.done"
"""In the session: what the last press did, or why it was refused, shown once."""


def buttons(experiment: Experiment, state: ExperimentState) -> None:
    """Draw the buttons that an experiment in this state allows."""
    if not may_edit():
        st.info(WHY)
        _elsewhere(experiment, state)
        return
    if experiment.active:
        if state.state == "paused":
            st.button("Resume", icon=":material/play_arrow:", type="primary", on_click=request, args=(experiment, "resume"))
        else:
            st.button(
                "Pause", icon=":material/pause:", on_click=request, args=(experiment, "pause"), disabled=state.state == "stopping",
                help="Hold the runs in training and start no other.",
            )  # fmt: skip
        st.button(
            "Stop", icon=":material/stop:", on_click=request, args=(experiment, "stop"), disabled=state.state == "stopping",
            help="Stop the runs in training with a checkpoint and start no other. Continue goes on from there.",
        )  # fmt: skip
    else:
        begun = state.state != "waiting"
        if state.count("finished", "failed") < len(state.runs):
            st.button(
                "Continue" if begun else "Start", icon=":material/play_arrow:", type="primary", on_click=begin, args=(experiment,),
                disabled=str(experiment.folder) in JOBS, help="Train the runs that are not done. Finished ones are not repeated.",
            )  # fmt: skip
        if failed := state.count("failed"):
            st.button(
                f"Retry failed ({failed:,})", icon=":material/replay:", on_click=begin, args=(experiment, True),
                disabled=str(experiment.folder) in JOBS, help="Begin failed runs again.",
            )  # fmt: skip
    with st.popover("Extend", icon=":material/add:"):
        _extend(experiment)
    if st.button("Change", icon=":material/edit:", help="Open the declaration in the form. Runs that are done are not repeated."):
        leave_for(EXPERIMENTS, {"new": "yes", "from": experiment.name})
    _elsewhere(experiment, state)


def _elsewhere(experiment: Experiment, state: ExperimentState) -> None:
    """Draw the ways to the same runs on other pages."""
    folders = experiment.run_folders()
    compare = st.button(
        "Compare", icon=f":material/{COMPARE.icon}:", disabled=len(folders) < 2,
        help=f"Lay the runs of the first {MOST} variants side by side: training curves with bands over seeds, pairs, answers.",
    )  # fmt: skip
    runs = st.button("Runs", icon=f":material/{RUNS.icon}:", disabled=not folders, help="Show the runs in the list of all runs.")
    if compare:
        shown = experiment.variants[:MOST]
        begun = [run.key for run in experiment.runs if run.variant in shown and run.key in folders]
        trained = [key for key in begun if state.runs[key].step]  # a run without a step would leave its group without numbers
        names = [folders[key].name for key in (trained if len(trained) > 1 else begun)]
        leave_for(COMPARE, {"runs": ",".join(names)})
    if runs:
        leave_for(RUNS, {"open": experiment.name})


def request(experiment: Experiment, kind: str) -> None:
    """Send a request to the process that starts the runs; a refusal becomes a message."""
    require_edit()
    done = {
        "pause": "Pausing: the runs hold after their current steps.",
        "resume": "Resuming.",
        "stop": "Stopping with a checkpoint.",
    }
    try:
        {"pause": experiment.pause, "resume": experiment.resume, "stop": experiment.stop}[kind]()
        st.session_state[DONE] = done[kind]
    except RunError as error:  # it has ended meanwhile
        st.session_state[DONE] = str(error)


def begin(experiment: Experiment, retry: bool = False) -> None:
    """Start the process that trains the runs that are not done, in the background. retry: begin failed runs again."""
    folder = find_experiment(experiment.name)
    JOBS[str(folder.path)] = Job(lambda _: sweeping.start_driver(folder, retry=retry))


def _extend(experiment: Experiment) -> None:
    """Draw the form that adds seeds or an objective, with the number and the time of the runs that it adds."""
    have = len(experiment.declaration.seeds)
    seeds = st.number_input("Seeds", value=have, step=1, help=f"Their new number; there are {have} now. Results so far are kept.")
    objective = st.selectbox(
        "Another objective", sorted(OBJECTIVES), index=None, format_func=objective_label, placeholder="None",
        help="With its default parameters, the same settings and seeds. Change adds one with parameters.",
    )  # fmt: skip
    if seeds == have and objective is None:
        st.button("Extend and train", type="primary", disabled=True)
        return
    try:
        new, time = _further_runs(experiment, seeds, objective)
    except ConfigError as error:
        st.error(plain(error))
        return
    st.text(time if new else "That adds no run.")
    st.button(
        f"Extend by {count_of(len(new), 'run')}",
        type="primary",
        disabled=not new,
        on_click=extend,
        args=(experiment, seeds, objective),
    )


def _further_runs(experiment: Experiment, seeds: int, objective: str | None) -> tuple[list[PlannedRun], str]:
    """Return the runs that an extension adds, and their time in words. Raises ConfigError for an impossible extension."""
    content = experiment.content
    wider = replace(content, declaration=extended(content.declaration, objectives=[objective] if objective else (), seeds=seeds))
    known = {run.key for run in content.runs}
    new = [run for run in wider.runs if run.key not in known]
    seconds, basis = measured_seconds(wider, new)
    unknown = "The time is not known before a run of this kind has finished."
    return new, unknown if seconds is None else f"Time: about {duration(seconds)} ({basis})"


def extend(experiment: Experiment, seeds: int, objective: str | None) -> None:
    """Add seeds or an objective to an experiment and train what is new, in the background."""

    def work(_: object) -> None:
        folder, declaration = sweeping.declared(objective, extend=experiment.name, seeds=seeds)
        sweeping.store_declaration(folder, declaration)
        sweeping.start_driver(folder)

    JOBS[str(experiment.folder)] = Job(work)


def show_done() -> None:
    """Draw what the last press did."""
    if message := st.session_state.pop(DONE, ""):
        st.toast(plain(message))


def messages(experiment: Experiment) -> None:
    """Draw the progress of starting runs, or why that failed."""
    job = JOBS.get(str(experiment.folder))
    if job is None or not may_edit():
        return
    if not job.done.wait(0.3):
        show_progress(job)
        return
    if job.error is not None:
        st.error(plain(job.error))
        st.button("Close", on_click=JOBS.forget, args=(str(experiment.folder), job))
    else:
        JOBS.forget(str(experiment.folder), job)
        st.rerun()
