"""What is redrawn while a run trains: its facts in words, its figures, its sampled answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app import diagnosis
from app.figure import dark, show
from app.moment import moment
from app.plain import plain
from app.words import STATES, duration, parameters, preparing
from lab.monitor import ENDED
from lab.plots import DISTRIBUTION, Record, entry, run_figure
from lab.run import Run

INTERVAL = 1.0
"""Seconds between two drawings of a live run."""

SHOWN_WARNINGS = 3

LATEST = "latest"

JUDGED = {"oracle": "eval/oracle_reward", "reward": "eval/reward", "win_rate": "eval/win_rate", "valid": "eval/valid"}
"""Figures of what a judge says, and the number without which they are left out."""

OVER_PAIRS = ("pilot_chosen", "pilot_rejected", "target_margin", "weight_chosen", "weight_rejected")
"""Distributions that are shown unless others are asked for, where the run has them."""


def watch(run: Run, state: str) -> None:
    """Draw the run; again every second while it lives."""
    st.fragment(_draw, run_every=None if state in ENDED else INTERVAL)(run, state)


def _draw(run: Run, drawn_state: str) -> None:
    state = run.state
    if state != drawn_state:
        st.rerun(scope="app")  # the buttons outside have to follow
    record = _record(run)
    record.refresh()
    status = run.status
    preparing_still = state == "queued" and not status.get("step")
    sections: list[Callable[[Record], None]] = [_warnings, lambda _: diagnosis.section(run, moment(run.dir.name))]
    if not preparing_still:
        sections += [_figures, _distributions, _answers, _gradients]
    with st.container():
        _facts(run, state, status, record)
    for section in sections:
        with st.container():  # one each, always in the same place: a figure that moves in the page is made anew and loses its zoom
            section(record)


def _record(run: Run) -> Record:
    """What this session has read of the run so far."""
    kept = st.session_state.get("record")
    if not isinstance(kept, Record) or kept.reader.folder != run.dir:
        kept = st.session_state["record"] = Record(run.reader)
    return kept


def _facts(run: Run, state: str, status: dict[str, Any], record: Record) -> None:
    config = run.about["config"]
    step, steps = int(status.get("step", 0)), int(config["steps"])
    word, colour, icon = STATES[state]
    with st.container(horizontal=True, vertical_alignment="center"):
        model, pairs = config["model"], run.about.get("pairs_name", config["pairs"])
        st.badge(word, icon=f":material/{icon}:", color=colour)
        st.text(f"{parameters(_objective(run))}  ·  model {model}  ·  pairs {pairs}")
    if state == "queued" and step == 0:
        st.progress(float(status.get("stage_share") or 0.0), text=plain(preparing(status)))
        return
    stage = str(status.get("stage") or "")
    aside = f", {preparing(status).lower()}" if state == "running" and stage not in ("training", "") else ""
    st.progress(min(step / steps, 1.0), text=f"Step {step:,} of {steps:,}{aside}")
    rate = record.scalars(["pairs_per_second"])["pairs_per_second"].dropna()
    remaining = status.get("remaining")
    cells = st.columns(4)
    cells[0].metric("Throughput", f"{rate.iloc[-1]:,.1f} pairs/s" if len(rate) else "–")
    cells[1].metric("Trained for", duration(float(status.get("seconds", 0.0))))
    cells[2].metric("Remaining", duration(remaining) if remaining and state not in ENDED else "–")
    loss = record.scalars(["loss"])["loss"].dropna()
    cells[3].metric("Loss", f"{loss.iloc[-1]:.4g}" if len(loss) else "–")


def _objective(run: Run) -> dict[str, Any]:
    """The objective's specification, with the parameters in use."""
    try:
        return run.settings.objective.spec() if run.changes() else run.about["config"]["objective"]
    except ValueError:  # a user's own objective that is gone, or damaged changes: the page shows the rest
        return run.about["config"]["objective"]


def _warnings(record: Record) -> None:
    events = record.events()
    found = events[events["kind"].isin(["warning", "refused"])]
    found = found[[not detail.get("diagnosed") for detail in found["detail"]]]  # the diagnosis below says these
    said = {
        detail["words"]: step for step, detail in zip(found["step"], found["detail"])
    }  # the same words once, with their last step
    for words, step in list(said.items())[-SHOWN_WARNINGS:]:
        st.warning(plain(f"Step {step:,}: {words}" if step else words), icon=":material/warning:")
    if len(said) > SHOWN_WARNINGS:
        st.caption(f"{len(said) - SHOWN_WARNINGS} earlier warnings are marked at the foot of the curves.")


def _row(record: Record, names: Sequence[str], columns: int = 3) -> None:
    """Figures side by side."""
    for start in range(0, len(names), columns):
        cells = st.columns(columns)
        for cell, name in zip(cells, names[start : start + columns]):
            with cell:
                show(run_figure(record, name, dark()), key=f"figure-{name}")


def _figures(record: Record) -> None:
    st.subheader("Objective")
    _row(record, ["loss", "margins", "accuracy"])
    st.subheader("Rewards and log-probs of both sides")
    _row(record, ["rewards", "logps", "log_ratios"])
    if "degree" in record.term_names():
        st.subheader("Preference degree")
        _row(record, ["degree", "confusion"], columns=2)


def _distributions(record: Record) -> None:
    st.subheader("Over the pairs")
    terms = record.term_names()
    if not terms:
        st.caption("How every term is spread over the pairs appears here after the first step.")
        return
    chosen = st.pills(
        "Terms",
        terms,
        default=[term for term in OVER_PAIRS if term in terms],
        selection_mode="multi",
        format_func=lambda term: entry(term).title,
        key=f"terms-{record.reader.folder.name}",
        label_visibility="collapsed",
    )
    _row(record, [DISTRIBUTION + term for term in chosen], columns=2 if len(chosen) in (2, 4) else 3)


def _answers(record: Record) -> None:
    events = record.events()
    looks = events[events["kind"] == "evaluation"]
    if looks.empty:
        return
    details = {step: detail["samples"] for step, detail in zip(looks["step"], looks["detail"]) if detail.get("samples")}
    if not details:
        return
    st.subheader("Sampled answers to held-out prompts")
    names = {name for detail in looks["detail"] for name in detail}
    judged = [figure for figure, name in JUDGED.items() if name in names]
    _row(record, [*judged, "kl", "answer_length", "repetition"])
    _samples(record, details)


def _samples(record: Record, details: dict[int, list[dict[str, Any]]]) -> None:
    """The reference's and the policy's answer to one prompt, side by side; the latest look unless another is asked for."""
    run = record.reader.folder.name
    prompts = [sample["prompt"] for sample in next(iter(details.values()))]
    one, other = st.columns([3, 1])
    number = one.selectbox("Prompt", range(len(prompts)), format_func=lambda i: " ".join(prompts[i].split()), key=f"prompt-{run}")
    asked = other.selectbox(
        "Look", [LATEST, *details], format_func=lambda step: step if step == LATEST else _when(step), key=f"look-{run}"
    )
    step = list(details)[-1] if asked == LATEST else asked
    same = [sample for sample in details[step] if sample["prompt"] == prompts[number]]
    sides = (("Reference", "reference_answer", "reference_reward"), (f"Policy {_when(step)}", "answer", "reward"))
    for cell, (title, answer, reward) in zip(st.columns(2), sides):
        with cell, st.container(border=True):
            for sample in same[:1]:
                st.caption(f"{title}, reward {sample[reward]:.3f}" if reward in sample else title)
                st.text(sample[answer])


def _when(step: int) -> str:
    return f"after step {step:,}" if step else "before training"


def _gradients(record: Record) -> None:
    st.subheader("Gradient flow")
    show(run_figure(record, "layers", dark()), key="figure-layers")
    _row(record, ["grad_norm", "learning_rate", "throughput"])
