"""The buttons that control a run, and the notices of a run that ended before its last step."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import streamlit as st

import lab
from app.state.access import WHY, may_edit, require_edit
from app.state.jobs import Job, Jobs, show_progress
from app.text.plain import plain
from app.text.run_text import Colour
from lab.run.handle import Run
from lab.store import RunError
from lab.store.folder import step_of

CAN_PAUSE = ("queued", "running")
CAN_STOP = ("queued", "running", "paused")
CAN_CONTINUE = ("stopped", "failed", "crashed")
"""Ended before its last step: the run can be resumed from its last checkpoint."""

STOPPING: tuple[str, Colour, str] = ("Stopping ...", "orange", "stop")
"""Label, colour and icon of a run with a stop request that has not ended."""

STOP_REQUESTS = "stop-requests"
"""In the session: folder names of runs with a stop request of this session, until they have ended."""

JOBS: Jobs[str, Run] = Jobs()
"""Runs that are being resumed from a checkpoint, by folder name."""


def buttons(run: Run, state: str) -> str:
    """Draw Pause, Resume and Stop; return a message about the button that was clicked, or "".

    The buttons are outside of the part that is redrawn every second, so a click never waits for a drawing.
    """
    if state not in CAN_STOP:
        _stop_requests().discard(run.dir.name)
    if not may_edit():
        return WHY
    pause = st.button("Pause", icon=":material/pause:", disabled=state not in CAN_PAUSE, help="Hold after the current step.")
    resume = st.button(
        "Resume",
        icon=":material/play_arrow:",
        disabled=state not in ("paused", *CAN_CONTINUE) or run.dir.name in JOBS,
        help="Continue: after a pause at once, after an end from the last checkpoint.",
    )
    stop = st.button(
        "Stop",
        icon=":material/stop:",
        disabled=state not in CAN_STOP or run.stopping,
        on_click=_note_stop,
        args=(run,),
        help="Save a checkpoint and end the run. Resume continues exactly from there.",
    )
    try:
        if pause or (resume and state == "paused"):
            return pause_or_resume(run)
        if stop:
            require_edit()
            run.stop()
            return "Stopping ... The run saves a checkpoint first; Resume continues from it."
    except RunError as error:  # the run ended between the drawing and the click
        _stop_requests().discard(run.dir.name)
        return str(error)
    if resume:
        resume_from_checkpoint(run)
        return "Resuming the run from its last checkpoint."
    return ""


def pause_or_resume(run: Run) -> str:
    """Pause a run, or resume a paused one; return what happens now. Raises RunError for a run that has ended."""
    require_edit()
    if run.state == "paused":
        run.resume()
        return "Resuming the run."
    run.pause()
    return "Pausing: the run holds after the current step."


def stops(run: Run, state: str, status: Mapping[str, Any]) -> bool:
    """Return whether the run has a stop request, from here or elsewhere, and has not ended."""
    return state in CAN_STOP and (run.dir.name in _stop_requests() or status.get("stage") == "stopping")


def _stop_requests() -> set[str]:
    requests: set[str] = st.session_state.setdefault(STOP_REQUESTS, set())
    return requests


def _note_stop(run: Run) -> None:
    """Remember the stop request before the page is drawn again."""
    _stop_requests().add(run.dir.name)


def resume_from_checkpoint(run: Run, without_change: int | None = None) -> None:
    """Resume a run that has ended, in the background, with the executor it had. without_change: see `lab.train`."""
    folder, executor = run.dir, run.status.get("executor", "thread")
    JOBS[folder.name] = Job(
        lambda progress: lab.train(run_dir=folder, resume=True, without_change=without_change, executor=executor, progress=progress)
    )


def continuing(run: Run) -> None:
    """Draw the progress of resuming from a checkpoint, or why it failed."""
    job = JOBS.get(run.dir.name)
    if job is None or not may_edit():  # whoever resumed it sees the result, not a page that only watches
        return
    if not job.done.wait(0.5):
        show_progress(job)
    elif job.error is not None:
        st.error(plain(f"The run cannot be resumed: {job.error}"))
        JOBS.forget(run.dir.name, job)
    else:
        JOBS.forget(run.dir.name, job)
        st.rerun()


def notices(run: Run, state: str) -> None:
    """Draw why a run ended before its last step, and how it can be resumed."""
    step, steps = run.step, run.manifest["config"]["steps"]
    if state == "failed":
        reason = run.error or "No reason was recorded."
        st.error(plain(f"The run failed at step {step:,} of {steps:,}: {reason}"), icon=":material/error:")
        if (run.dir / "log.txt").exists():
            st.caption("The traceback is in:")
            st.code(str(run.dir / "log.txt"), language=None, wrap_lines=True)
    elif state == "crashed":
        why = f": {run.error}" if run.error else " without an error message."
        st.error(
            plain(f"The process of this run ended{why} The last step was {step:,} of {steps:,}."),
            icon=":material/heart_broken:",
        )
    elif state == "stopped" and run.stop_reason:
        st.warning(plain(run.stop_reason), icon=":material/memory:")
    if state in CAN_CONTINUE:
        with st.container(horizontal=True, vertical_alignment="center"):  # one line: the curves stay in sight
            if state == "stopped":
                message = f":material/stop_circle: Stopped at step {step:,} of {steps:,}; everything up to there is saved."
                st.caption(message, width="content")
            with st.popover("Resume in a terminal", icon=":material/terminal:"):
                _how_to_continue(run)


def _how_to_continue(run: Run) -> None:
    checkpoints = run.checkpoints()
    if checkpoints:
        st.caption(f"Resume continues from the checkpoint of step {step_of(checkpoints[-1]):,}, here or in a terminal:")
    else:
        st.caption("There is no checkpoint, so Resume starts again from the first step, here or in a terminal:")
    st.code(f"python -m lab train --run-dir {shlex.quote(str(run.dir))} --resume", language="bash", wrap_lines=True)
