"""Progress of an experiment, run by run: a table of variants and seeds, why runs have failed, and the details of one run."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.pages import INSPECT, LIVE
from app.state.address import put
from app.state.navigation import leave_for
from app.text.plain import displayable, plain
from app.text.run_text import duration
from app.views.experiments.run_grid import Cell, Row, show_grid
from app.views.experiments.states import RUN_STATES
from lab.experiments import Experiment, ExperimentState, PlannedRun, RunState
from lab.plots import entry

MARKS = {"waiting": "·", "queued": "…", "finished": "✓", "failed": "✗", "crashed": "✗", "paused": "‖", "stopped": "■"}
"""Signs of states in the table; a run in training shows its step."""
LIVE_RUN = "experiments.live"
"""In the session: the page and the run that were requested by a press."""


def show(experiment: Experiment, state: ExperimentState) -> None:
    """Draw the table, the failures, and the opened run."""
    if target := st.session_state.pop(LIVE_RUN, None):
        leave_for(LIVE if target[0] == "live" else INSPECT, {"run": target[1]})
    chosen = st.query_params.get("run")
    cells = {(run.variant, run.seed): _cell(run, state.runs[run.key]) for run in experiment.runs}
    seeds = experiment.declaration.seeds
    rows = [Row(variant, [cells[variant, seed] for seed in seeds]) for variant in experiment.variants]
    show_grid(rows, seeds, key="experiment.grid", label="Runs by variant and seed", opened=chosen, on_open=_open)
    st.caption(
        "✓ finished; a number: the step of a run in training; ‖ paused; ■ stopped; ✗ failed; … queued; · not begun. "
        "Press one for details."
    )
    _failures(experiment, state)
    run = next((run for run in experiment.runs if run.key == chosen), None)
    if run is not None:
        with st.container(border=True):
            _details(experiment, run, state.runs[run.key])


def _cell(run: PlannedRun, state: RunState) -> Cell:
    word, colour, _ = RUN_STATES[state.state]
    mark = MARKS.get(state.state, "")
    step = f"{state.step:,}" if state.state in ("running", "paused", "stopped") and state.step else ""
    whole = f"{run.variant}, seed {run.seed}: {word.lower()}, step {state.step:,} of {state.steps:,}"
    return Cell(run.key, f"{mark} {step}".strip(), f"{whole}: {state.error}" if state.error else whole, colour, state.share)


def _open(key: str) -> None:
    put(run=None if st.query_params.get("run") == key else key)


def _failures(experiment: Experiment, state: ExperimentState) -> None:
    """Draw why runs have failed, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for run in experiment.runs:
        own = state.runs[run.key]
        if own.state in ("failed", "crashed"):
            reason = own.error or "The process ended without a message. Continue trains on from the last checkpoint."
            reasons.setdefault(reason, []).append(f"{run.variant}, seed {run.seed}")
    for reason, names in reasons.items():
        some = "; ".join(names[:4]) + (f" and {len(names) - 4:,} more" if len(names) > 4 else "")
        st.error(plain(f"{some}: {reason}"), icon=":material/error:")


def _details(experiment: Experiment, run: PlannedRun, state: RunState) -> None:
    """Draw one run: state, places where it can be seen, and the numbers of its last evaluation."""
    folder = experiment.run_folder(run.key)
    there = folder is not None and folder.exists()
    word, colour, icon = RUN_STATES[state.state]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(word, icon=f":material/{icon}:", color=colour)
        st.markdown(f"**{plain(run.variant)}, seed {run.seed}**", width="content")
        st.space("stretch")
        for page, name in ((LIVE, "live"), (INSPECT, "inspect")):
            st.button(
                page.title, icon=f":material/{page.icon}:", key=f"experiment.{name}", disabled=not there, on_click=_leave,
                args=(name, folder.name if folder else ""),
            )  # fmt: skip
        st.button("Close", icon=":material/close:", type="tertiary", on_click=_open, args=(run.key,))
    since = "from start to end of its process" if state.state == "finished" else "since its process started"
    took = f", {duration(state.seconds)} {since}" if state.seconds else ""
    lines = [f"Step {state.step:,} of {state.steps:,}{took}"]
    if folder is not None:
        lines.append(str(folder) if there else f"{folder} was deleted; the numbers of a finished run are kept with the experiment.")
    st.text(displayable("\n".join(lines)))
    record = experiment.records().get(run.key)
    if record and record["evaluations"]:
        last = record["evaluations"][-1]
        rows = [{"Number": entry(name).title, "Last": value, "Recorded as": name} for name, value in last["scalars"].items()]
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, height=300, column_config={"Last": st.column_config.NumberColumn(format="%.5g")}
        )


def _leave(page: str, run: str) -> None:
    st.session_state[LIVE_RUN] = (page, run)
