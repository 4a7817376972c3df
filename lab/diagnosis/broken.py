"""Checks for what is simply wrong: numbers that are none, a first step that cannot be, spikes, parameters out of range."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lab.store.folder import list_checkpoints

from .advice import Advice
from .changed import jump_after_change, undo
from .checks import Seen, check, number
from .evidence import Evidence
from .thresholds import Thresholds

LEAST_SPIKE = 0.05
"""nats; where the loss is nearly 0, a median of it is no measure."""

AROUND = 50
"""Latest steps among which a spike is looked for."""

BEFORE = 12
"""Steps before it that a loss is compared with: a loss that falls steeply has no spike at its start."""

ALWAYS_FINITE = ("loss", "logit", "logps_chosen", "logps_rejected", "log_ratio_chosen", "log_ratio_rejected")
"""Terms that every pair has a number for."""


@check("Numbers that are not finite")
def not_finite(e: Evidence, t: Thresholds) -> Seen:
    """NaN or infinity in the loss, the gradient norm or a pair's terms. The loop ends the run there; this says what led to it."""
    series = {name: e.recent(name) for name in ("loss", "grad_norm")}
    if all(values.empty for values in series.values()):
        return Seen(waits="no step yet")
    bad = [int(values.index[~np.isfinite(values.to_numpy())][0]) for values in series.values() if not np.isfinite(values).all()]
    sick = np.zeros(len(e.pairs), bool)
    for name in ALWAYS_FINITE:
        if name in e.pairs:
            sick |= ~np.isfinite(e.term(name))
    bad += [int(e.pairs["step"][sick].min())] if sick.any() else []
    if not bad:
        return Seen({"loss, latest [nats]": float(series["loss"].iloc[-1]), "gradient norm, latest": _last(series["grad_norm"])})
    step = min(bad)
    before = {name: values[(values.index < step) & np.isfinite(values.to_numpy())] for name, values in series.items()}
    rate = e.recent("learning_rate").reindex([step]).iloc[0]
    numbers = {
        "loss before [nats]": _last(before["loss"]),
        "gradient norm before": _last(before["grad_norm"]),
        "learning rate": float(rate),
        "pairs without a number": float(sick.sum()),
    }
    what = " and ".join(
        name.replace("grad_norm", "gradient norm") for name, values in series.items() if not np.isfinite(values).all()
    )
    what = what or "log-probs of some pairs"
    led = "Loss and gradient norm were not numbers from the first step on"
    if len(before["loss"]):
        loss, norm = number(numbers["loss before [nats]"]), number(numbers["gradient norm before"])
        led = f"The step before had loss {loss} and gradient norm {norm}"
    some = f"; {sick.sum()} of the latest {len(sick)} pairs have log-probs or a loss without a number" if sick.any() else ""
    jump = jump_after_change(e, t)
    if jump is not None and jump.step <= step:
        change, since = jump.change, f"{step - jump.change.after:,} steps after a change"
        advice = f"When step {change.after:,} was done, {change.message}. {undo(e, change)}"
    else:
        change, since = None, ""
        again = "a branch from an earlier checkpoint" if list_checkpoints(e.reader.folder) else "a new run"
        rate = Advice(e).rate()
        advice = Advice(e).helps(f"{again}{f' with {rate}' if rate else ''}", "a look at the pairs it began with")
    message = (
        f"The {what} stopped being {'numbers' if ' and ' in what or what.startswith('log') else 'a number'} at step {step:,}"
        f"{f', {since}' if since else ''}. {led}{some}. {advice}"
    )
    culprits = tuple(dict.fromkeys(e.pairs["pair"][sick]))[:5] if sick.any() else ()
    return Seen(numbers, message, "error", culprits, step, change=change.after if change else None)


def _last(values: pd.Series) -> float:
    return float(values.iloc[-1]) if len(values) else math.nan


@check("Wrong loss at the first step")
def first_step(e: Evidence, t: Thresholds) -> Seen:
    """With policy = reference the loss is a known number; another one means a wrong reference, mask or sign."""
    checks = [detail for detail in e.events("check")["detail"] if str(detail.get("what", "")).startswith("loss at the first step")]
    if not checks:
        return Seen(waits="this objective has no known first value, or the first step is yet to come")
    found, expected = float(checks[-1]["found"]), float(checks[-1]["expected"])
    numbers = {"first loss [nats]": found, "expected [nats]": expected}
    if checks[-1].get("passed", True):
        return Seen(numbers)
    message = (
        "Policy and reference were not the same model at the first step, so every log-ratio of this run is off. The first loss was "
        f"{found:.4f} where {e.config['objective'].get('name', 'the objective')} starts at {expected:.4f}. Look for a stale "
        "reference, a template that changed, or an adapter that was trained before, and start again."
    )
    return Seen(numbers, message, "error", since=1)


@check("Spikes of the loss", "spike_height", "spike_size")
def loss_spike(e: Evidence, t: Thresholds) -> Seen:
    """One loss far above those around it."""
    losses = e.recent("loss", AROUND + BEFORE)
    losses = losses[np.isfinite(losses.to_numpy())]
    values = losses.to_numpy()
    if len(values) <= BEFORE:
        return Seen(waits=f"a spike is told from {BEFORE + 1} steps on")
    earlier = np.lib.stride_tricks.sliding_window_view(values, BEFORE)[:-1]  # [n - BEFORE, BEFORE]
    middles = np.median(earlier, axis=1)
    deviations = 1.4826 * np.median(np.abs(earlier - middles[:, None]), axis=1)
    heights = (values[BEFORE:] - middles) / np.maximum(np.maximum(deviations, 0.02 * np.abs(middles)), 1e-12)
    large = values[BEFORE:] - middles > t.spike_size * np.maximum(np.abs(middles), LEAST_SPIKE)
    at = int(np.where(large, heights, -np.inf).argmax())
    height, middle = float(heights[at]) if large.any() else -math.inf, float(middles[at])
    step, highest = int(losses.index[BEFORE + at]), float(values[BEFORE + at])
    numbers = {"loss, latest [nats]": float(values[-1]), "loss, median of late [nats]": float(np.median(values))}
    if height <= t.spike_height:
        return Seen(numbers | {"highest of late [nats]": float(values.max())})
    numbers |= {"loss of the spike [nats]": highest, "median before it [nats]": middle, "height [deviations]": height}
    jump = jump_after_change(e, t)
    if jump is not None and not math.isnan(jump.loss) and jump.step <= step <= jump.change.after + t.change_reach:
        return Seen(numbers)  # told with the change that led to it
    batch = e.reader.pairs.batch(step)
    pairs = () if batch.empty else tuple(batch.sort_values("loss", ascending=False)["pair"])[:3]
    coupled = e.objective is not None and e.objective.couples(training=True)
    together = "; the loss of a pair depends on the others of its batch here, so look at all of them" if coupled else ""
    rate, times = Advice(e).rate(), number(height) if height < 1000 else "more than 1,000"
    message = (
        f"The loss jumped in one batch: to {number(highest)} at step {step:,}. That is {times} deviations above "
        f"the {number(middle)} of the steps before. Look at the pairs of that batch (labels swapped? answers cut?){together}."
        f"{f' If it comes again, train with {rate}.' if rate else ''}"
    )
    return Seen(numbers, message, "warning", pairs, step)


@check("Parameters out of range")
def parameters(e: Evidence, t: Thresholds) -> Seen:
    """What the objective itself says of its parameters, from the ranges that papers and the lab recommend."""
    spec = e.config["objective"]
    if not spec.get("name"):
        return Seen(waits="nothing is written down of the objective")
    objective = e.objective
    if objective is None:
        return Seen(waits=f"the objective {spec['name']} is not known here, or not with these parameters")
    inner = getattr(objective, "base", None)
    every = [objective, inner] if inner is not None and hasattr(inner, "warnings") else [objective]
    said = list(dict.fromkeys(message for one in every for message in one.warnings()))
    numbers = {
        f"{one.name}: {key}": float(value)
        for one in every
        for key, value in one
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    for one in every:
        if one.name == "alpha_dpo" and getattr(one, "stop_gradient", True) is False:
            said.append(
                "alpha_dpo trains without its stop-gradient. In its paper that took the length-controlled win rate from 58.7 to "
                "2.7. Switch stop_gradient on unless you mean to see that."
            )
    return Seen(numbers, " ".join(said), "warning")
