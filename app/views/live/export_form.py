"""The Live page's form Export: write a run's model to a folder of this machine."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

import lab
from app.state.access import may_edit
from app.state.jobs import Job, Jobs, show_progress
from app.text.plain import plain
from lab import home
from lab.run.handle import Run

JOBS: Jobs[str, Path] = Jobs()
"""Exports by folder name of their run, until their outcome was dismissed."""

TYPES = {"as trained": None, "float32": "float32", "bfloat16": "bfloat16"}


EXPORT = "Export"
"""Name of the form."""


def panels(run: Run) -> list[str]:
    """List the form for a run with a checkpoint."""
    return [EXPORT] if run.checkpoints() and may_edit() else []


def section(run: Run, panel: str | None) -> None:
    """Draw the form if it is open, and the progress or the outcome of an export."""
    job = JOBS.get(run.dir.name)
    if not may_edit() or (job is None and panel != EXPORT):
        return
    with st.container(border=True):
        if job is None:
            _form(run, run.checkpoints())
        elif not job.done.wait(0.2):
            show_progress(job)
        else:
            _outcome(run, job)


def _form(run: Run, checkpoints: list[Path]) -> None:
    key = run.dir.name
    st.caption("The model with its tokenizer and a card, for transformers and peft; the lab is not needed to load it.")
    kind, weights, where = st.columns([2, 2, 4], vertical_alignment="bottom")
    adapter = (checkpoints[-1] / "adapter_config.json").exists()
    what = kind.selectbox("What", ["adapter", "merged"] if adapter else ["model"], key=f"export.what.{key}")
    dtype = weights.selectbox("Weights", list(TYPES), key=f"export.dtype.{key}", help="As trained: merged weights are float32.")
    folder = where.text_input("Folder on this machine", str(home.home() / "exports" / key), key=f"export.folder.{key}").strip()
    trl = st.checkbox("Also the pairs and a script that does the same training in TRL", key=f"export.trl.{key}")
    if st.button("Export the model", icon=":material/ios_share:", disabled=not folder):
        JOBS[key] = Job(
            lambda progress: lab.export_run(run, folder, what=what, dtype=TYPES[dtype], trl_script=trl, progress=progress)
        )
        st.rerun()


def _outcome(run: Run, job: Job[Path]) -> None:
    if job.error is not None:
        st.error(plain(job.error))
    else:
        st.success("The model was written to this folder:")
        st.code(str(job.result), language=None, wrap_lines=True)
    if st.button("Export again"):
        JOBS.forget(run.dir.name, job)
        st.rerun()
