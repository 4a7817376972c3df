"""Models of a run's checkpoints: opened in the background and kept by the library. They never change the run."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.state.access import WHY, may_edit
from app.state.jobs import Job, Jobs, show_progress
from app.text.plain import plain
from lab.run.handle import Run
from lab.store import ENDED
from lab.whatif import Examined, examine, kept, openable

NOW = "now"

JOBS: Jobs[tuple[Path, int | str], int] = Jobs()
"""Models that are being opened, by run and step ("now": the present model). The result is the step."""


def steps(run: Run) -> list[int]:
    """Return the steps at which the run's model can be examined, oldest first."""
    return openable(run)


def nearest(available: list[int], step: int | None) -> int:
    """Return the latest of the available steps up to `step` (None: of all), or the first."""
    before = [at for at in available if step is None or at <= step]
    return before[-1] if before else available[0]


def choose(run: Run, step: int | None, key: str) -> int | None:
    """Draw a list of the checkpoints and, for a live run, a button for its present model; return the chosen step.

    At first the nearest checkpoint at or before `step` is chosen. Returns None if the run has no checkpoint.
    """
    if not may_edit():
        st.info(WHY)
        return None
    available = steps(run)
    if not available:
        st.info("This run has no checkpoint yet; the model can be examined after the first one.")
        return None
    live = run.state not in ENDED
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    # Another step has its own widget, so that its checkpoint is chosen; a new checkpoint does not change the choice.
    widget = f"{key}.{run.dir.name}.{step}"
    wanted = st.session_state.pop(f"{key}.wanted", None)
    if wanted in available:
        st.session_state[widget] = wanted
    elif st.session_state.get(widget) not in available:
        st.session_state[widget] = nearest(available, step)
    chosen: int = left.selectbox("Model", available[::-1], format_func=_label, key=widget)
    with right:
        if live and st.button(
            "The present model",
            icon=":material/photo_camera:",
            key=f"{key}.now",
            help="Save a checkpoint after the run's current step and open it. Training continues.",
        ):
            JOBS[run.dir, NOW] = _opening(run, NOW)
    job = JOBS.get((run.dir, NOW))
    if job is not None:
        if not job.done.wait(0.2):
            show_progress(job)
        else:
            JOBS.forget((run.dir, NOW), job)
            if job.error is not None:
                st.error(plain(job.error))
            else:
                st.session_state[f"{key}.wanted"] = job.result
                st.rerun()
    return chosen


def opened(run: Run, step: int) -> Examined | None:
    """Return the model of a checkpoint once it is open; until then draw the progress, or the error, and return None."""
    if not may_edit():
        st.info(WHY)
        return None
    model = kept(run, step)
    if model is not None:
        return model
    job = JOBS.get((run.dir, step))
    if job is None:
        job = JOBS[run.dir, step] = _opening(run, step)
    if not job.done.wait(0.2):
        show_progress(job)
        return None
    if job.error is not None:
        st.error(plain(job.error))
        st.button("Try again", on_click=JOBS.forget, args=((run.dir, step), job), key=f"again.{step}")
        return None
    JOBS.forget((run.dir, step), job)
    model = kept(run, step)
    if model is None:  # another page has opened two others meanwhile
        st.rerun()
    return model


def _opening(run: Run, at: int | str) -> Job[int]:
    return Job(lambda progress: examine(run, at, progress=progress).step)


def _label(step: int) -> str:
    return f"after step {step:,}" if step else "before the first step"


def note_single_pair(model: Examined) -> None:
    """Draw a note if the objective compares the pairs of a batch, so that the loss of a single pair differs."""
    if model.objective.couples(training=False):
        st.caption("This objective compares the pairs of a batch; the pair is scored as a batch of one, so its loss differs.")
