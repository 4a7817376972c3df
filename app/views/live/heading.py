"""The head of the Live page: state, description and latest numbers of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from app.state.objective_in_use import spec_at
from app.text.plain import plain
from app.text.run_text import STATES, duration, objective_name, parameters, preparing
from app.views.live import controls
from lab.plots import Record
from lab.run.handle import Run
from lab.store import ENDED
from lab.world import is_world_name


def summary(run: Run, state: str, status: dict[str, Any], record: Record) -> None:
    """Draw state and description on one line; progress, loss, throughput and times on the next, all for the step that is shown."""
    config = run.manifest["config"]
    past = record.until is not None
    step, steps = record.step if past else int(status.get("step", 0)), int(config["steps"])
    word, colour, icon = controls.STOPPING if controls.stops(run, state, status) else STATES[state]
    spec = spec_at(run, record.until)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(word, icon=f":material/{icon}:", color=colour)
        st.text(f"{sentence(run, spec, record)}, step {step:,} of {steps:,}", width="content")
        st.caption(plain(parameters(spec)), width="content")
    if state == "queued" and step == 0:
        st.progress(float(status.get("stage_share") or 0.0), text=plain(preparing(status)))
        return
    stage = str(status.get("stage") or "")
    aside = f", {preparing(status).lower()}" if state == "running" and stage not in ("training", "") else ""
    loss, rate = last_value(record, "loss"), last_value(record, "pairs_per_second")
    if past:
        seconds = last_value(record, "seconds/trained")
        remaining = (steps - step) * int(config["batch_size"]) / rate if rate else None
    else:
        seconds, remaining = float(status.get("seconds", 0.0)), status.get("remaining") if state not in ENDED else None
    cells = st.columns([2, 1, 1, 1, 1], vertical_alignment="center")
    cells[0].progress(min(step / steps, 1.0), text=f"Step {step:,} of {steps:,}{'' if past else aside}")
    at = f"At step {step:,}, which is shown. " if past else ""
    cells[1].metric("Loss", "–" if loss is None else f"{loss:.4g}", help=f"{at}The loss of the batch, L, in nats.")
    cells[2].metric(
        "Pairs/s", "–" if rate is None else f"{rate:,.1f}", help=f"{at}Throughput: pairs per second, mean of ten steps."
    )
    cells[3].metric("Trained for", duration(seconds) if seconds is not None else "–", help=f"{at}Without pauses.")
    cells[4].metric(
        "Remaining",
        duration(remaining) if remaining else "–",
        help=f"{at}At the speed of then." if past else "At the present speed.",
    )


def sentence(run: Run, spec: dict[str, Any], record: Record) -> str:
    """Return the sentence that names objective, model and pairs: "SGDPO tunes SmolLM2-135M on 2,180 pairs, full fine-tuning"."""
    config = run.manifest["config"]
    model, pairs = str(config["model"]), str(run.manifest.get("pairs_name", config["pairs"]))
    events = record.events()
    reports = list(events.loc[events["kind"] == "preflight", "detail"]) if len(events) else []
    count = f"{int(reports[-1]['pairs']):,} " if reports else ""
    embedded = "the embedded model" if model == "world" else f"the embedded model of {model}"
    named = embedded if is_world_name(model) else Path(model).name or model
    rank = int(config.get("lora_rank") or 0)
    how = f"{'QLoRA' if config.get('quantize') == '4bit' else 'LoRA'} of rank {rank}" if rank else "full fine-tuning"
    of = "of the embedded world" if pairs == "world" else f"of {pairs}"
    return f"{objective_name(str(spec['name']))} tunes {named} on {count}pairs {of}, {how}"


def last_value(record: Record, name: str) -> float | None:
    """Return the latest value of a scalar up to the step that is shown."""
    values = record.scalars([name])[name].dropna()
    return float(values.iloc[-1]) if len(values) else None
