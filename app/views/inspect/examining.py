"""Models of runs that pages ask questions of: opened in the background, kept by the library, and never touching the run."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.state.jobs import Job, Jobs, show_progress
from app.text.plain import plain
from lab.run.handle import Run
from lab.store import ENDED
from lab.whatif import Examined, examine, kept, openable

NOW = "now"

JOBS: Jobs[tuple[Path, int | str], int] = Jobs()
"""Models that are being opened, by run and step ("now": the present model). The result is the step."""


def steps(run: Run) -> list[int]:
    """The steps at which the run's model can be examined, oldest first."""
    return openable(run)


def nearest(there: list[int], step: int | None) -> int:
    """The latest of some steps that is not behind `step` (None: of all), or the first."""
    before = [found for found in there if step is None or found <= step]
    return before[-1] if before else there[0]


def choose(run: Run, step: int | None, key: str) -> int | None:
    """A list of the checkpoints, the nearest at or before `step` first chosen, and for a live run a button for its present model.

    Returns the chosen step; None where there is none.
    """
    there = steps(run)
    if not there:
        st.info("This run has no checkpoint yet, so there is no model to ask.")
        return None
    live = run.state not in ENDED
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    # Another moment is another list, so that its checkpoint is chosen; a new checkpoint leaves what was chosen alone.
    widget = f"{key}.{run.dir.name}.{step}"
    asked = st.session_state.pop(f"{key}.wanted", None)
    if asked in there:
        st.session_state[widget] = asked
    elif st.session_state.get(widget) not in there:
        st.session_state[widget] = nearest(there, step)
    chosen: int = left.selectbox("Model", there[::-1], format_func=_label, key=widget)
    with right:
        if live and st.button(
            "The present model",
            icon=":material/photo_camera:",
            key=f"{key}.now",
            help="Ask the run to save a checkpoint after its current step, and open that. Training goes on.",
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
    """The model of a checkpoint once it is open. Until then the page shows how far that is, or why it cannot be."""
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


def say_alone(model: Examined) -> None:
    """Say it where the objective compares the pairs of a batch, of which a pair alone has none to be compared with."""
    if model.objective.couples(training=False):
        st.caption("This objective compares the pairs of a batch; here the pair stands alone, so its loss is not that of a batch.")
