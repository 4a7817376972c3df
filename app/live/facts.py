"""A run in words and numbers, at the head of the page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.live.using import spec_at
from app.plain import plain
from app.words import STATES, duration, parameters, preparing
from lab.monitor import ENDED
from lab.plots import Record
from lab.run import Run


def facts(run: Run, state: str, status: dict[str, Any], record: Record) -> None:
    """State, objective, model and pairs on one line; progress and the numbers people ask for first on the next."""
    about = run.about
    config = about["config"]
    step, steps = int(status.get("step", 0)), int(config["steps"])
    word, colour, icon = STATES[state]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(word, icon=f":material/{icon}:", color=colour)
        model, pairs = config["model"], about.get("pairs_name", config["pairs"])
        st.text(f"{parameters(spec_at(run, record.until))}  ·  model {model}  ·  pairs {pairs}")
    if state == "queued" and step == 0:
        st.progress(float(status.get("stage_share") or 0.0), text=plain(preparing(status)))
        return
    stage = str(status.get("stage") or "")
    aside = f", {preparing(status).lower()}" if state == "running" and stage not in ("training", "") else ""
    cells = st.columns([3, 1, 1, 1, 1], vertical_alignment="center")
    cells[0].progress(min(step / steps, 1.0), text=f"Step {step:,} of {steps:,}{aside}")
    remaining = status.get("remaining") if state not in ENDED else None
    loss, rate = last_value(record, "loss"), last_value(record, "pairs_per_second")
    at = "" if record.until is None else f"At step {record.step:,}, which is shown. "
    cells[1].metric("Loss", f"{loss:.4g}" if loss is not None else "–", help=f"{at}The loss of the batch, L, in nats.")
    cells[2].metric("Throughput", f"{rate:,.1f} pairs/s" if rate is not None else "–", help=f"{at}Mean of about ten steps.")
    cells[3].metric("Trained for", duration(float(status.get("seconds", 0.0))), help="Without pauses, up to now.")
    cells[4].metric("Remaining", duration(remaining) if remaining else "–", help="At the present speed.")


def last_value(record: Record, name: str) -> float | None:
    """A scalar at the moment that is shown."""
    values = record.scalars([name])[name].dropna()
    return float(values.iloc[-1]) if len(values) else None
