"""The check before a run: lengths, cuts, memory and time, computed in the background while the form stays in use."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.state import pair_sets
from app.state.jobs import Job, show_progress
from app.text.plain import plain
from app.text.run_text import duration
from lab import api
from lab.diagnosis.checks import number
from lab.progress import StageProgress
from lab.run.config import TrainConfig
from lab.run.preflight_report import Preflight, size
from lab.training.setup.preflight import DoesNotFit

HELP = (
    "Loads the model, reads the pairs and sends a few of them through it: does everything fit, what would be cut, how long will it "
    "take? No run is made."
)


def section(config: TrainConfig | None, displayed: Sequence[str] = ()) -> None:
    """Draw a button that checks `config` (None disables it), and the result of the last check of this session.

    displayed: Warnings that the page shows already; not repeated.
    """
    if st.button("Check", disabled=config is None, width="stretch", help=HELP) and config:
        wanted = config
        st.session_state["check"] = (wanted, Job(lambda progress: look_ahead(wanted, progress)))
    if "check" not in st.session_state:
        return
    checked, job = st.session_state["check"]
    if not job.done.wait(0.2):
        show_progress(job)
        return
    if job.error is not None:
        st.error(plain(f"The check failed: {job.error}"))
        return
    if config is not None and _without_name(config) != _without_name(checked):
        st.caption("The settings have changed since this check.")
    show(job.result, displayed)


def look_ahead(config: TrainConfig, progress: StageProgress) -> Preflight:
    """Return the preflight report of a run with these settings."""
    pair_sets.await_worlds((config.pairs, config.model), progress)
    try:
        return api.preflight(**config.model_dump(mode="json"), progress=progress)
    except DoesNotFit as refusal:
        return refusal.report  # which contains the refusal


def show(report: Preflight, displayed: Sequence[str] = ()) -> None:
    """Draw a report: problems first, lengths in a closed expander."""
    memory = report.memory
    if report.advice:
        st.error(plain(f"The run would be refused. {report.advice}"))
    else:
        st.success(
            plain(f"It fits: about {size(memory.total)} of memory, and {size(memory.free)} more are free on {memory.device}.")
        )
    steps = f"{report.steps:,} step{'s' if report.steps > 1 else ''}"
    if report.time is None:
        st.text(f"How long it takes is unknown: memory ran out while a pair was timed ({steps}, {number(report.epochs)} epochs)")
    else:
        took = duration(max(report.time.training + report.time.reference, 1))
        st.text(f"About {took} for {steps} ({number(report.epochs)} epochs), without evaluation, sampling, probes and checkpoints")
    for finding in report.findings:
        if finding.message not in displayed:
            (st.info if finding.pairs else st.warning)(plain(finding.message))
    with st.expander("Lengths and memory"):
        st.code("\n".join(report.lines()), language=None, wrap_lines=False)


def _without_name(config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"name": ""})
