"""The virtual step: its form, its progress, and its effect on all other pairs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.state.jobs import Job, show_progress
from app.text.plain import one_line, plain
from app.text.run_text import meaning
from app.views.inspect.pair_list import open_pair
from app.widgets import examining, save_dialog
from app.widgets.figure import dark
from lab.pairs import Pair, PairsError, PairStore, prompt_text
from lab.plots import virtual_step as picture
from lab.progress import StageProgress
from lab.run.handle import Run
from lab.whatif import Examined, VirtualStep

SAMPLES: dict[str, int | None] = {"100 others": 100, "500 others": 500, "all others": None}
OPTIMIZERS = {"adamw": "the run's AdamW", "sgd": "plain SGD"}
LISTED = 12
"""Pairs in each of the two tables."""


class Cancelled(ValueError):
    """The virtual step was cancelled."""


class StepJob(Job[VirtualStep]):
    """A virtual step in the background, which can be cancelled between two batches."""

    def __init__(self, model: Examined, pair: Pair, **options: Any) -> None:
        self.pair, self.cancelled = pair.id, threading.Event()
        held = [model]  # a finished job is kept, but must not keep the model

        def work(progress: StageProgress) -> VirtualStep:
            def report(message: str, share: float) -> None:
                if self.cancelled.is_set():
                    raise Cancelled("The virtual step was cancelled; the weights are as they were.")
                progress(message, share)

            return held.pop().virtual_step(pair, progress=report, **options)

        super().__init__(work)


STEPS: dict[Path, StepJob] = {}
"""The latest virtual step of every run, by run folder."""


def section(run: Run, store: PairStore, pair: Pair, step: int | None) -> None:
    """Draw the form and the result. pair: its present text. step: the step that is shown; None for the latest."""
    st.caption(
        "One optimizer step on this pair alone, taken on a copy of the model in memory: the margins of this pair and of the others "
        "are measured before and after, and the step is rolled back. The run is not changed."
    )
    chosen = examining.choose(run, step, "virtual.model")
    if chosen is None:
        return
    job = STEPS.get(run.dir)
    if job is not None and not job.done.is_set():
        st.text(f"On pair {job.pair}:")
        show_progress(job)
        st.button("Cancel", icon=":material/close:", on_click=job.cancelled.set)
        return
    model = examining.opened(run, chosen)
    if model is None:
        return
    examining.note_single_pair(model)
    _form(run, model, pair)
    job = STEPS.get(run.dir)
    if job is None:
        return
    if not job.done.is_set():
        st.rerun()
    if job.error is not None:
        st.error(plain(job.error))
    else:
        _result(run, store, job.result, pair)


def _form(run: Run, model: Examined, pair: Pair) -> None:
    one, two, three, four = st.columns([2, 2, 2, 2], vertical_alignment="bottom")
    rate = one.number_input(
        "Learning rate",
        value=model.rate,
        format="%.3g",
        step=model.rate / 10,
        key=f"virtual.rate.{model.run_dir.name}.{model.step}",
        help="Learning rate of the virtual step; default: the schedule's next rate, or its peak if that is 0.",
    )
    optimizer = two.selectbox(
        "Optimizer",
        list(OPTIMIZERS),
        format_func=lambda name: OPTIMIZERS[name],
        key="virtual.optimizer",
        help="AdamW continues from the checkpoint's moments, so the step includes the run's momentum. Plain SGD follows the "
        "gradient of this pair alone; give it a larger learning rate.",
    )
    sample = three.selectbox(
        "Measured on", list(SAMPLES), key="virtual.sample", help="Number of other pairs measured; a fixed random sample."
    )
    if four.button("Take a virtual step", icon=":material/science:", type="primary"):
        options = {"learning_rate": float(rate), "optimizer": optimizer, "sample": SAMPLES[sample]}
        STEPS[run.dir] = StepJob(model, pair, **options)


def _result(run: Run, store: PairStore, result: VirtualStep, pair: Pair) -> None:
    measured = len(result.others)
    which = "this pair" if result.pair == pair.id else f"pair {result.pair}"
    st.markdown(
        plain(
            f"A step of {OPTIMIZERS[result.optimizer]} on {which} after step {result.step:,}, learning rate "
            f"{result.learning_rate:.3g}; measured on {measured:,} of {result.of - 1:,} others in {result.seconds:.1f} s."
        )
    )
    own, cells = result.own.iloc[0], st.columns(5)
    cells[0].metric("Its own margin", f"{own['margin_after']:+.4g}", f"{own['margin_change']:+.3g}")
    cells[1].metric("Its chosen answer", f"{own['chosen_change']:+.3g} nats", help="Change of log π(y_w|x).")
    cells[2].metric("Its rejected answer", f"{own['rejected_change']:+.3g} nats", help="Change of log π(y_l|x).")
    cells[3].metric("Others helped", f"{len(result.helped):,}", help="Pairs whose margin grew.")
    cells[4].metric("Others hurt", f"{len(result.hurt):,}", help="Pairs whose margin shrank.")
    changes = result.others["margin_change"].to_numpy(np.float64)
    if not result.moved:
        st.info("The step moved no weight, so no margin changed; give it a larger learning rate.")
    st.caption(
        plain(
            f"Before clipping the gradient's norm ‖g‖ was {result.grad_norm:.4g}; the step moved all weights together by "
            f"‖Δθ‖ = {result.moved:.4g}."
        )
    )
    save_dialog.chart(
        picture(changes, float(own["margin_change"]), dark=dark()),
        f"virtual-{run.dir.name}",
        title=f"Virtual step on pair {result.pair}",
        file=f"{run.dir.name}-virtual-step",
        data=lambda: result.changes,
        caption=f"All {measured + 1:,} pairs that were measured, the pair itself among them.",
    )
    for column, title, rows in zip(st.columns(2), ("Helped most", "Hurt most"), (result.helped, result.hurt)):
        with column:
            st.markdown(f"**{title}**")
            _table(store, rows.head(LISTED), f"virtual.{title}.{result.pair}.{result.step}.{id(result)}")


def _table(store: PairStore, rows: pd.DataFrame, key: str) -> None:
    """Draw a table with one row per pair; a click opens the pair."""
    if rows.empty:
        st.caption("None.")
        return
    ids = [str(id) for id in rows["pair"]]
    table = rows[["pair", "margin_change", "margin_before", "margin_after", "chosen_change", "rejected_change"]].copy()
    table["prompt"] = [_prompt(store, id) for id in ids]
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        on_select=lambda: _clicked(key, ids),
        selection_mode=["single-row", "single-cell"],
        key=key,
        column_config={
            "pair": st.column_config.TextColumn("Pair", help="The pair's id; a click opens it."),
            "margin_change": number("Δ margin", format="%+.3g", help="Change of the reward margin r(x, y_w) − r(x, y_l)."),
            "margin_before": number("before", format="%.4g", help=f"Before the step. {meaning('margin')}"),
            "margin_after": number("after", format="%.4g", help=f"After the step. {meaning('margin')}"),
            "chosen_change": number("Δ chosen", format="%+.3g", help="Change of log π(y_w|x), in nats."),
            "rejected_change": number("Δ rejected", format="%+.3g", help="Change of log π(y_l|x), in nats."),
            "prompt": st.column_config.TextColumn("Prompt"),
        },
    )


def _prompt(store: PairStore, id: str) -> str:
    try:
        return one_line(prompt_text(store.get(id).prompt)[:80])
    except PairsError:
        return ""


def _clicked(key: str, ids: list[str]) -> None:
    chosen = st.session_state[key]["selection"]
    rows = [row for row, _ in chosen["cells"]] or chosen["rows"]
    if rows:
        open_pair(ids[rows[0]])
