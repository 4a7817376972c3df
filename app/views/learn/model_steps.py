"""Step by step with a real model: one optimizer step of the embedded world's model at a time, objectives side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.state.access import in_class
from app.state.jobs import Job, show_progress
from app.text.plain import displayable, one_line, plain
from app.text.run_text import meaning
from app.widgets import token_view
from app.widgets.figure import show
from lab.objectives import Objective
from lab.pairs import Pair, answer_text, prompt_text
from lab.plots import entry, layer_bars
from lab.progress import StageProgress
from lab.teaching.steps.model_steps import KEPT, ModelSteps
from lab.teaching.steps.step_record import CHANGING, ModelStep

OPEN, LEFT, AT = "learn.steps.open", "learn.steps.left", "learn.steps.at"
"""In the session: (settings, job that opens the models); steps left to play; time of the latest."""

TAKING, DRAWN = "learn.steps.taking", "learn.steps.drawn"
"""In the session: (models, job that takes a step); the latest steps that were drawn."""

QUICK = 1.0
"""Seconds within which a step appears without a progress bar."""

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
RATE, BATCH_SIZES, BATCH_SIZE = 3e-4, (2, 4, 8, 16), 8
FEW_KEPT = 2
"""Steps that can be taken back in a class, where every open page keeps its own."""

INTERVAL = 2.0
"""Seconds between two steps that are played."""

PLAYED = 30
"""Steps after which playing ends by itself, so that a page that nobody watches stops computing."""

LISTED = 5
"""Held-out pairs in each of the two tables."""

MOVING = (
    " What the objective computes from the model and holds fixed in its gradient (SGDPO's pilots, α-DPO's margin) is computed anew "
    "after the step, so that this loss can rise although the step follows its gradient."
)

Shown = Sequence[tuple[str, ModelSteps]]
"""The models of the page with the labels of their objectives."""


def draw(objectives: Sequence[tuple[str, Objective]], *, dark: bool) -> None:
    """Draw the controls and the latest step of every objective's model.

    The models belong to the session and start anew when an objective or the batch size changes.

    Args:
        objectives: Label and objective of each.
        dark: Whether the page is dark.
    """
    if not objectives:
        st.info("Choose an objective; the steps of its model appear here.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        rate = st.select_slider(
            "Learning rate",
            RATES,
            RATE,
            format_func=lambda value: f"{value:g}",
            key="learn.steps.rate",
            width=320,
            help="Of AdamW, from the next step on; constant. The model has half a million weights, large ones need smaller rates.",
            persist_state="page",
        )
        batch_size = st.select_slider(
            "Batch size",
            BATCH_SIZES,
            BATCH_SIZE,
            key="learn.steps.batch",
            width=240,
            help="Pairs per optimizer step. Another size starts again from the first step.",
            persist_state="page",
        )
    job = _opened([objective for _, objective in objectives], batch_size)
    if not job.done.wait(0.2):
        show_progress(job)
        return
    if job.error is not None:
        st.error(plain(job.error))
        st.button("Try again", on_click=st.session_state.pop, args=(OPEN,))
        return
    models = job.result
    for model in models:
        model.learning_rate = rate
    playing = st.session_state.get(LEFT, 0) > 0
    shown = [(label, model) for (label, _), model in zip(objectives, models)]
    st.fragment(_steps, run_every=INTERVAL if playing else None)(shown, playing, dark)


def _opened(objectives: Sequence[Objective], batch_size: int) -> Job[list[ModelSteps]]:
    """Return the job that opens the models of these settings; a new one if they have changed."""
    settings = json.dumps([[objective.spec() for objective in objectives], batch_size])
    kept: tuple[str, Job[list[ModelSteps]]] | None = st.session_state.get(OPEN)
    if kept is not None and kept[0] == settings:
        return kept[1]

    steps_kept = FEW_KEPT if in_class() else KEPT

    def work(progress: StageProgress) -> list[ModelSteps]:
        return [ModelSteps(objective, batch_size=batch_size, progress=progress, kept=steps_kept) for objective in objectives]

    job = Job(work, everyone=True)  # the embedded model, in memory
    st.session_state[OPEN] = settings, job
    st.session_state[LEFT] = 0
    return job


# The controls.


def _steps(shown: Shown, playing: bool, dark: bool) -> None:
    """Draw everything that a step changes; with `playing`, take the next step first."""
    models = [model for _, model in shown]
    busy, error = _taken(models)
    if playing and not busy and st.session_state.get(LEFT, 0) and time.monotonic() - st.session_state.get(AT, 0.0) > 0.7 * INTERVAL:
        st.session_state[LEFT] -= 1
        _take(models)
        busy, error = _taken(models)
    if playing != (st.session_state.get(LEFT, 0) > 0):
        st.rerun(scope="app")  # the timer is set there
    _controls(models, playing, busy)
    if busy:
        show_progress(st.session_state[TAKING][1])
    if error:
        st.error(plain(error))
    if not busy:  # else some models may be a step ahead of others
        st.session_state[DRAWN] = [(label, model, model.current) for label, model in shown if model.current is not None]
    records: list[tuple[str, ModelSteps, ModelStep]] = st.session_state.get(DRAWN, [])
    if not records and not busy:
        st.info(
            "Press Step (key S) to take the first optimizer step, or Play (key P) to take one after another. Then you see its "
            "batch, the credit of every token, the gradient by layer, the log-probs before and after, and the pairs it helped."
        )
    if not records:
        return
    pairs = records[0][2].pairs
    chosen = _batch(pairs)
    largest = max(float(record.layers[["norm_chosen", "norm_rejected"]].to_numpy().max()) for _, _, record in records)
    for column, (label, model, record) in zip(st.columns(len(records), gap="medium"), records):
        with column:
            _summary(label, record, len(model.others))
            show(layer_bars(record.layers, largest=largest, dark=dark), key=f"learn-steps-layers-{label}", name="gradient-by-layer")
    _painted(records, chosen)
    for column, (label, _, record) in zip(st.columns(len(records), gap="medium"), records):
        with column:
            st.markdown(f"**{plain(label)}: terms of the pairs**")
            _terms(record)
    for column, (label, model, record) in zip(st.columns(len(records), gap="medium"), records):
        with column:
            _others(label, model, record)


def _controls(models: Sequence[ModelSteps], playing: bool, busy: bool) -> None:
    first = models[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        if playing:
            st.button("Pause", icon=":material/pause:", shortcut="P", on_click=_play, args=(0,))
        else:
            st.button(
                "Play",
                icon=":material/play_arrow:",
                shortcut="P",
                on_click=_play,
                args=(PLAYED,),
                help=f"Take a step every {INTERVAL:g} seconds, at most {PLAYED} of them.",
            )
        st.button("Step", icon=":material/skip_next:", shortcut="S", disabled=busy, on_click=_take, args=(models,))
        st.button(
            "Step back",
            icon=":material/skip_previous:",
            shortcut="B",
            disabled=busy or not all(model.can_go_back for model in models),
            on_click=_back,
            args=(models,),
            help="Restore weights and optimizer state as they were before the latest step; a few steps are kept.",
        )
        st.button(
            "Reset",
            icon=":material/restart_alt:",
            shortcut="0",
            disabled=busy or not first.number,
            on_click=_reset,
            args=(models,),
            help="Return to the weights before the first step.",
        )
        st.markdown(f"**Step {first.number:,}**")
    st.caption(
        f"The model of the embedded world, {first.size:,} weights, trained with AdamW as `lab.train` does. All objectives begin "
        "with the same weights and train on the same batches."
    )


def _play(steps: int) -> None:
    st.session_state[LEFT], st.session_state[AT] = steps, 0.0


def _take(models: Sequence[ModelSteps]) -> None:
    """Begin a step of every model, unless one is being taken."""
    if TAKING not in st.session_state:
        st.session_state[TAKING] = models, Job(partial(_step, models), everyone=True)  # the embedded model, in memory
    st.session_state[AT] = time.monotonic()


def _step(models: Sequence[ModelSteps], progress: StageProgress) -> None:
    """Take a step with every model, or with none of them if one fails."""
    taken: list[ModelSteps] = []
    try:
        for model in models:
            progress(f"Step {model.number + 1:,} with {model.objective.name}", len(taken) / len(models))
            model.step()
            taken.append(model)
    except Exception:  # a registered objective may be user code, which can raise anything
        for model in taken:
            model.back()
        raise


def _taken(models: Sequence[ModelSteps]) -> tuple[bool, str | None]:
    """Return whether a step of these models is still being taken after a moment, and why the latest one failed."""
    taking: tuple[Sequence[ModelSteps], Job[None]] | None = st.session_state.get(TAKING)
    if taking is None:
        return False, None
    stepping, job = taking
    if stepping == models and not job.done.wait(QUICK):
        return True, None
    del st.session_state[TAKING]
    if stepping != models or job.error is None:
        return False, None
    st.session_state[LEFT] = 0
    return False, job.error


def _back(models: Sequence[ModelSteps]) -> None:
    st.session_state[LEFT] = 0
    for model in models:
        model.back()


def _reset(models: Sequence[ModelSteps]) -> None:
    st.session_state[LEFT] = 0
    for model in models:
        model.reset()


# The latest step.


def _batch(pairs: Sequence[Pair]) -> int:
    """Draw the batch, which all models share; return the place of the pair whose tokens are painted."""
    texts = [
        (_line(prompt_text(pair.prompt)), displayable(answer_text(pair.chosen)), displayable(answer_text(pair.rejected)))
        for pair in pairs
    ]
    with st.expander(f"Batch: {len(pairs)} pairs", expanded=False):
        table = pd.DataFrame(texts, columns=["prompt", "chosen", "rejected"], index=range(1, len(pairs) + 1))
        columns = {name: st.column_config.TextColumn(name.capitalize()) for name in table.columns}
        st.dataframe(table, column_config={**columns, "_index": st.column_config.NumberColumn("Pair", width=50)})
    chosen: int = st.selectbox(
        "Pair of the batch",
        range(len(pairs)),
        format_func=lambda place: f"{place + 1}: {texts[place][0]}",
        key=f"learn.steps.pair.{len(pairs)}",
        help="The pair whose tokens are painted below.",
    )
    return chosen


def _line(text: str) -> str:
    """Return the beginning of a text on one line."""
    return one_line(text[:80])


def _summary(label: str, record: ModelStep, others: int) -> None:
    st.markdown(f"**{plain(label)}**")
    with st.container(horizontal=True):
        for term, name, colour in (
            ("loss", "Loss", "inverse"),
            ("logps_chosen", "Chosen, log π(y_w|x)", "normal"),
            ("logps_rejected", "Rejected, log π(y_l|x)", "off"),
        ):
            before, after = record.mean(term)
            more = MOVING if term == "loss" else ""
            st.metric(
                plain(name),
                f"{after:.4g}",
                f"{after - before:+.3g} nats",
                delta_color=colour,  # type: ignore[arg-type]  # a tuple of three literals
                help=f"Mean over the batch after the step, and its change by the step. {meaning(term)}{more}",
                width="content",
            )
        helped, hurt = len(record.helped), len(record.hurt)
        st.metric(
            "Helped, hurt",
            f"{helped}, {hurt}",
            help=f"Of {others} fixed held-out pairs: margin grew, margin shrank.",
            width="content",
        )
    st.caption(
        plain(
            f"Norm of the gradient ‖g‖ {record.grad_norm:.3g} before clipping; the step moved the weights by ‖Δθ‖ = "
            f"{record.moved:.3g} in {record.seconds:.2f} s."
        )
    )


def _painted(records: Sequence[tuple[str, ModelSteps, ModelStep]], chosen: int) -> None:
    """Draw both answers of the chosen pair, painted, for every objective."""
    offered = [
        name
        for name in ("credit", "log_ratio", "pilot")
        if any(name in token_view.choices(model.objective, model.objective.needs_reference) for _, model, _ in records)
    ]
    wanted = token_view.switch("learn.steps.paint", offered)
    for label, model, record in records:
        rows = record.tokens[record.tokens["row"] == chosen]
        pair = record.pairs[chosen]
        st.markdown(f"**{plain(label)}: tokens of pair {chosen + 1}**")
        notes = [_change(record, chosen, side) for side in token_view.SIDES]
        token_view.draw(wanted, (answer_text(pair.chosen), answer_text(pair.rejected)), rows, model.tokenizer, (notes[0], notes[1]))


def _change(record: ModelStep, place: int, side: str) -> str:
    before, after = (float(terms[f"logps_{side}"].iloc[place]) for terms in (record.terms, record.terms_after))
    return f"log-prob {before:.3f} → {after:.3f} nats by this step"


def _terms(record: ModelStep) -> None:
    """Draw one row per pair of the batch with every term of the objective."""
    table = record.pair_table()
    table.index = pd.RangeIndex(1, len(table) + 1)
    number = st.column_config.NumberColumn
    columns: dict[str, Any] = {"_index": number("Pair", width=50)}
    for name in table.columns:
        term = str(name).removesuffix("_after")
        known = entry(term)
        when = "" if term not in CHANGING else " after" if term != name else " before"
        columns[str(name)] = number(f"{known.symbol}{when}", format="%.4g", help=f"{plain(known.title)}{when}. {meaning(term)}")
    st.dataframe(table, column_config=columns)


def _others(label: str, model: ModelSteps, record: ModelStep) -> None:
    """Draw the held-out pairs that the step helped and hurt most."""
    prompts = {pair.id: _line(prompt_text(pair.prompt)) for pair in model.others}
    number = st.column_config.NumberColumn
    for title, rows in (("helped most", record.helped), ("hurt most", record.hurt)):
        st.markdown(f"**{plain(label)}: held-out pairs {title}**")
        if rows.empty:
            st.caption("None.")
            continue
        table = rows.head(LISTED)[["margin_change", "margin_before", "margin_after", "chosen_change", "rejected_change"]].copy()
        table.insert(1, "prompt", [prompts[id] for id in rows.head(LISTED)["pair"]])
        st.dataframe(
            table,
            hide_index=True,
            column_config={
                "margin_change": number("Δ margin", format="%+.3g", help="Change of the reward margin r(x, y_w) − r(x, y_l)."),
                "prompt": st.column_config.TextColumn("Prompt"),
                "margin_before": number("before", format="%.4g", help=f"Before the step. {meaning('margin')}"),
                "margin_after": number("after", format="%.4g", help=f"After the step. {meaning('margin')}"),
                "chosen_change": number("Δ chosen", format="%+.3g", help="Change of log π(y_w|x), in nats."),
                "rejected_change": number("Δ rejected", format="%+.3g", help="Change of log π(y_l|x), in nats."),
            },
        )
