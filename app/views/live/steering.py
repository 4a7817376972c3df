"""The buttons that steer a run, and the notices of a run that has failed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import streamlit as st

import lab
from app.state.jobs import Job, show_progress
from app.text.plain import plain
from lab.run.handle import Run
from lab.store import RunError

CAN_PAUSE = ("queued", "running")
CAN_STOP = ("queued", "running", "paused")
CAN_CONTINUE = ("stopped", "failed", "dead")
"""Ended before its last step: it can go on from its last checkpoint."""

STOPPING = ("Stopping ...", "orange", "stop")
"""Word, colour and icon of a run that was asked to stop and has not ended."""

ASKED_TO_STOP = "asked-to-stop"
"""In the session: folder names of runs that were asked to stop here, until they have ended or go on."""

JOBS: dict[str, Job[Run]] = {}
"""Runs that are being taken up again, by folder name; kept here because a reload must find them."""


def buttons(run: Run, state: str) -> str:
    """Pause, Resume, Stop; returns what a click has set going, in words, or "".

    They stand outside of what is redrawn every second, so that a click never waits for a drawing.
    """
    if state not in CAN_STOP:
        _asked_to_stop().discard(run.dir.name)
    with st.container(horizontal=True, horizontal_alignment="right"):
        pause = st.button("Pause", icon=":material/pause:", disabled=state not in CAN_PAUSE, help="Hold after the current step.")
        resume = st.button(
            "Resume",
            icon=":material/play_arrow:",
            disabled=state not in ("paused", *CAN_CONTINUE) or run.dir.name in JOBS,
            help="Go on: after a pause at once, after an end from the last checkpoint.",
        )
        stop = st.button(
            "Stop",
            icon=":material/stop:",
            disabled=state not in CAN_STOP or run.stopping,
            on_click=_note_stop,
            args=(run,),
            help="Save a checkpoint and end. Resume goes on from there, exactly.",
        )
    try:
        if pause:
            run.pause()
            return "Asked the run to pause; it holds after the current step."
        if stop:
            run.stop()
            return "Stopping ... The run saves a checkpoint first, so that Resume can take it up again."
        if resume and state == "paused":
            run.resume()
            return "Asked the run to go on."
    except RunError as error:  # it ended between the drawing and the click
        _asked_to_stop().discard(run.dir.name)
        return str(error)
    if resume:
        take_up(run)
        return "Taking the run up again from its last checkpoint."
    return ""


def stops(run: Run, state: str, status: Mapping[str, Any]) -> bool:
    """Whether the run was asked to stop, here or elsewhere, and has not ended."""
    return state in CAN_STOP and (run.dir.name in _asked_to_stop() or status.get("stage") == "stopping")


def _asked_to_stop() -> set[str]:
    asked: set[str] = st.session_state.setdefault(ASKED_TO_STOP, set())
    return asked


def _note_stop(run: Run) -> None:
    """Before the page is drawn again, so that all of it knows."""
    _asked_to_stop().add(run.dir.name)


def take_up(run: Run, without_change: int | None = None) -> None:
    """Continue a run that has ended, in the background, as it was trained before. without_change: see `lab.train`."""
    folder, executor = run.dir, run.status.get("executor", "thread")
    JOBS[folder.name] = Job(
        lambda progress: lab.train(run_dir=folder, resume=True, without_change=without_change, executor=executor, progress=progress)
    )


def continuing(run: Run) -> None:
    """How far the taking up again is; its failure, if it cannot be done."""
    job = JOBS.get(run.dir.name)
    if job is None:
        return
    if not job.done.wait(0.5):
        show_progress(job)
    elif job.error is not None:
        st.error(plain(f"The run cannot go on: {job.error}"))
        del JOBS[run.dir.name]
    else:
        del JOBS[run.dir.name]
        st.rerun()


def notices(run: Run, state: str) -> None:
    """Why a run ended before its time, what can be done, and the warnings it gave."""
    step, steps = run.step, run.manifest["config"]["steps"]
    if state == "failed":
        reason = run.error or "No reason was written down."
        st.error(plain(f"The run failed at step {step:,} of {steps:,}: {reason}"), icon=":material/error:")
        if (run.dir / "log.txt").exists():
            st.caption("Where it happened:")
            st.code(str(run.dir / "log.txt"), language=None, wrap_lines=True)
    elif state == "dead":
        why = f"its process ended: {run.error}" if run.error else "its process ended without a word"
        st.error(
            plain(f"This run is dead ({why}). Its last step was {step:,} of {steps:,}."),
            icon=":material/heart_broken:",
        )
    elif state == "stopped":
        st.info(f"Stopped at step {step:,} of {steps:,}; everything up to there is saved.", icon=":material/stop_circle:")
        if run.stop_reason:
            st.warning(plain(run.stop_reason), icon=":material/memory:")
    if state in CAN_CONTINUE:
        with st.expander("Resume in a terminal", icon=":material/terminal:"):
            _how_to_continue(run)


def _how_to_continue(run: Run) -> None:
    found = run.checkpoints()
    if found:
        st.caption(
            f"Resume goes on from the checkpoint of step {int(found[-1].name.removeprefix('step-')):,}, here or in a terminal:"
        )
    else:
        st.caption("There is no checkpoint, so Resume starts from the first step again, here or in a terminal:")
    st.code(f"python -m lab train --run-dir {shlex.quote(str(run.dir))} --resume", language="bash", wrap_lines=True)
