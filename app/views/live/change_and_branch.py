"""The Live page's forms Change and Branch: settings in mid-run, edits, a checkpoint, a new run from a checkpoint."""

from __future__ import annotations

from typing import Any

import streamlit as st

import lab
from app.state.access import may_edit, require_edit
from app.state.jobs import Job, Jobs, show_progress
from app.state.moment import address
from app.state.recipe import build_objective
from app.text.plain import plain
from app.text.run_text import taking_edits
from app.views.live.controls import CAN_STOP
from app.widgets.forms import grid, objective_fields, widget
from lab.objectives import OBJECTIVES
from lab.pairs import PairsError
from lab.run.changeable import changeable
from lab.run.checkpoints import find_checkpoint
from lab.run.config import ConfigError, TrainConfig
from lab.run.handle import Run
from lab.run.pair_versions import FOLLOW, is_fixed
from lab.run.settings import checkpoint_settings
from lab.store import RunError
from lab.store.folder import step_of

BRANCHES: Jobs[str, Run] = Jobs()
"""Branches that are being started, by folder name of their parent, until their outcome was dismissed."""

CHANGE, BRANCH = "Change", "Branch"
"""Names of the forms."""


def panels(run: Run, state: str) -> list[str]:
    """List the forms: Change for a live run, Branch for a run with a checkpoint."""
    if not may_edit():
        return []
    return [CHANGE] * (state in CAN_STOP) + [BRANCH] * bool(run.checkpoints())


def section(run: Run, state: str, panel: str | None) -> None:
    """Draw the chosen form, a branch that is being started, and edits that the run has not taken yet."""
    if not may_edit():
        return
    if state in CAN_STOP:
        edits(run)
        if panel == CHANGE:
            with st.container(border=True):
                _settings(run)
    job = BRANCHES.get(run.dir.name)
    if job is not None or panel == BRANCH:
        with st.container(border=True):
            if job is None:
                _branch(run)
            elif not job.done.wait(0.2):
                show_progress(job)
            else:
                _outcome(run, job)


@st.fragment(run_every=2.0)
def edits(run: Run) -> None:
    """Draw a button that takes the edits if the pair store has a newer version than the run uses; a run may follow by itself."""
    if is_fixed(run.pairs_setting):
        return
    try:
        newest, used = run.pair_store().version, run.pairs_version
    except (PairsError, RunError) as error:
        st.caption(plain(str(error)))
        return
    if newest == used:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.text(f"The pairs were edited: the run uses version {used} of them, and there is version {newest}.")
        if run.pairs_setting == FOLLOW:
            st.caption(f"The run {taking_edits(FOLLOW, paused=run.state == 'paused')}")
        elif st.button("Take edits", icon=":material/published_with_changes:", help="Train on the pairs as they are now."):
            _send(run.take_edits, "The run takes the edits after its current step.")


def _settings(run: Run) -> None:
    """Draw a field for every setting that may change, with its present value."""
    try:
        now = changeable(run.settings)
    except ConfigError as error:
        st.error(plain(str(error)))
        return
    key = f"change.{run.dir.name}"
    fields, defaults = {path: field for path, (field, _) in now.items()}, {path: value for path, (_, value) in now.items()}
    with st.form(f"{key}.form", border=False):
        # The key depends on the present values, so that the fields follow a change.
        wanted = grid(fields, defaults, f"{key}.{hash(str(defaults))}")
        if st.form_submit_button("Set", icon=":material/check:", help="From the next step on. Unchanged fields stay as they are."):
            other = {path: value for path, value in wanted.items() if value != defaults[path]}
            _send(lambda: run.set(other), f"The run sets {', '.join(other)} after its current step.")
    if st.button("Checkpoint now", icon=":material/save:", help="Save after the current step."):
        _send(run.checkpoint, "The run saves a checkpoint after its current step.")


def _send(request: Any, message: str) -> None:
    """Send a request to the run, and draw the message or the error."""
    require_edit()
    try:
        request()
    except (ConfigError, RunError, PairsError) as error:
        st.error(plain(str(error)))
    else:
        st.caption(plain(message))


def _branch(run: Run) -> None:
    """Draw the form of a new run that starts from a checkpoint with another objective or other settings."""
    steps = [step_of(path) for path in run.checkpoints()]
    key = f"branch.{run.dir.name}"
    st.caption("A new run starts from the weights of a checkpoint. It keeps this run's reference, and steps continue counting.")
    columns = st.columns(4, vertical_alignment="bottom")
    at = columns[0].selectbox("From step", steps[::-1], format_func=lambda step: f"{step:,}", key=f"{key}.at")
    try:
        former = checkpoint_settings(find_checkpoint(run.dir, at))
    except (ConfigError, RunError) as error:
        st.error(plain(str(error)))
        return
    names = sorted(OBJECTIVES)
    name = columns[1].selectbox("Objective", names, index=names.index(former.objective.name), key=f"{key}.objective")
    fields = TrainConfig.model_fields
    with columns[2]:
        rate = widget("learning_rate", fields["learning_rate"], former.learning_rate, f"{key}.{at}.rate")
    with columns[3]:
        more = former.steps if former.steps > at else at + former.steps
        last = widget("steps", fields["steps"], more, f"{key}.{at}.steps")
    begin = {k: v for k, v in former.objective.spec().items() if k != "name"} if name == former.objective.name else {}
    spec = {"name": name, **objective_fields(OBJECTIVES[name], begin, f"{key}.{at}.{name}")}
    if st.button("Start the branch", icon=":material/fork_right:"):
        try:
            given = {"objective": build_objective(spec), "learning_rate": rate, "steps": last}
        except ValueError as error:
            st.error(plain(str(error)))
            return
        BRANCHES[run.dir.name] = Job(lambda progress: lab.train(branch_from=run, at=at, progress=progress, **given))
        st.rerun()


def _outcome(run: Run, job: Job[Run]) -> None:
    if job.error is not None:
        st.error(plain(f"The branch could not be started: {job.error}"))
        st.button("Close", on_click=BRANCHES.forget, args=(run.dir.name, job))
        return
    st.text(f"Started {job.result.dir.name}.")
    st.button("Watch the branch", icon=":material/monitoring:", on_click=_watch, args=(run.dir.name, job.result.dir.name))


def _watch(parent: str, branch: str) -> None:
    BRANCHES.pop(parent, None)
    address(branch, pair=None)
