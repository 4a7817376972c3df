"""Sampled answers to held-out prompts, policy beside reference, and their rewards."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.text.plain import displayable, one_line
from app.views.live.charts import row
from lab.plots import Record

LATEST = "latest"

SAMPLED = "eval/completions/mean_length"
"""A scalar of every evaluation with sampled answers."""

JUDGED = {"oracle": "eval/oracle_reward", "reward": "eval/reward", "win_rate": "eval/win_rate", "valid": "eval/valid"}
"""Figures of a judge's scores, and the scalar that each needs."""


def answers(record: Record) -> None:
    """Draw the panel, the figures of the evaluations, and the answers to one prompt."""
    row(record, ["panel"], columns=1)
    events = record.events()
    evaluations = events[events["kind"] == "evaluation"]
    evaluations = evaluations[[SAMPLED in detail for detail in evaluations["detail"]]]
    if evaluations.empty:
        st.caption(
            "Answers to held-out prompts are sampled before the first step, every eval_every steps and at the end; "
            "with eval_prompts = 0 they never are. They appear here, the policy's beside the reference's."
        )
        return
    st.subheader("Sampled answers to held-out prompts")
    names = {name for detail in evaluations["detail"] for name in detail}
    judged = [figure for figure, name in JUDGED.items() if name in names]
    row(record, [*judged, "kl", "answer_length", "repetition"])
    _samples(record, dict(zip(evaluations["step"], evaluations["number"])))


def _samples(record: Record, evaluations: dict[int, int]) -> None:
    """Draw the reference's and the policy's answer to one prompt side by side, at the latest or a chosen evaluation.

    evaluations: Number of the event that holds the answers, by step of the evaluation; only the chosen event is read.
    """
    run = record.reader.folder.name
    prompts = [sample["prompt"] for sample in _answers(record, next(iter(evaluations.values())))]
    if not prompts:
        return  # the run has just resumed from an earlier step; the next drawing is right
    one, other = st.columns([3, 1])
    number = one.selectbox("Prompt", range(len(prompts)), format_func=lambda i: one_line(prompts[i]), key=f"prompt-{run}")
    chosen = other.selectbox(
        "Evaluation",
        [LATEST, *map(str, evaluations)],
        format_func=lambda step: step if step == LATEST else _when(int(step)),
        key=f"evaluation-{run}",
    )
    step = list(evaluations)[-1] if chosen == LATEST else int(chosen)
    same = [sample for sample in _answers(record, evaluations[step]) if sample["prompt"] == prompts[number]]
    sides = (("Reference", "reference_answer", "reference_reward"), (f"Policy {_when(step)}", "answer", "reward"))
    for cell, (title, answer, reward) in zip(st.columns(2), sides):
        with cell, st.container(border=True):
            for sample in same[:1]:
                st.caption(f"{title}, reward {sample[reward]:.3f}" if reward in sample else title)
                st.text(displayable(sample[answer]))


def _answers(record: Record, number: int) -> list[dict[str, Any]]:
    try:
        return record.reader.events.detail(int(number)).get("samples", [])
    except KeyError:
        return []


def _when(step: int) -> str:
    return f"after step {step:,}" if step else "before training"
