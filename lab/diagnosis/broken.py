"""Checks for plain errors: non-finite numbers, a wrong first loss, spikes of the loss, parameters out of range."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lab.store.folder import list_checkpoints

from .advice import Advice
from .changed import jump_after_change, undo
from .checks import CheckResult, check, number
from .evidence import Evidence
from .thresholds import Thresholds

LEAST_SPIKE = 0.05
"""Smallest median of the loss (nats) that a spike is compared with; one near 0 would make everything a spike."""

AROUND = 50
"""Number of latest steps that are searched for a spike."""

BEFORE = 12
"""Number of steps before a loss that it is compared with, few enough that a steep fall at the start is not a spike."""

ALWAYS_FINITE = ("loss", "logit", "logps_chosen", "logps_rejected", "log_ratio_chosen", "log_ratio_rejected")
"""Terms that are finite for every pair in a healthy run."""


@check("Numbers that are not finite")
def not_finite(e: Evidence, t: Thresholds) -> CheckResult:
    """Check for NaN or infinity in the loss, the gradient norm or the terms of a pair, and explain what led to it."""
    series = {name: e.recent(name) for name in ("loss", "grad_norm")}
    if all(values.empty for values in series.values()):
        return CheckResult(missing="no step yet")
    bad = [int(values.index[~np.isfinite(values.to_numpy())][0]) for values in series.values() if not np.isfinite(values).all()]
    broken_rows = np.zeros(len(e.pairs), bool)
    for name in ALWAYS_FINITE:
        if name in e.pairs:
            broken_rows |= ~np.isfinite(e.term(name))
    bad += [int(e.pairs["step"][broken_rows].min())] if broken_rows.any() else []
    if not bad:
        return CheckResult(
            {"loss, latest [nats]": float(series["loss"].iloc[-1]), "gradient norm, latest": _last(series["grad_norm"])}
        )
    step = min(bad)
    before = {name: values[(values.index < step) & np.isfinite(values.to_numpy())] for name, values in series.items()}
    rate = e.recent("learning_rate").reindex([step]).iloc[0]
    numbers = {
        "loss before [nats]": _last(before["loss"]),
        "gradient norm before": _last(before["grad_norm"]),
        "learning rate": float(rate),
        "pairs that are not finite": float(broken_rows.sum()),
    }
    what = " and ".join(
        name.replace("grad_norm", "gradient norm") for name, values in series.items() if not np.isfinite(values).all()
    )
    what = what or "log-probs of some pairs"
    led = "Loss and gradient norm were not finite from the first step on"
    if len(before["loss"]):
        loss, norm = number(numbers["loss before [nats]"]), number(numbers["gradient norm before"])
        led = f"The step before had loss {loss} and gradient norm {norm}"
    some = (
        f"; {broken_rows.sum()} of the latest {len(broken_rows)} pairs have a loss or log-probs that are not finite"
        if broken_rows.any()
        else ""
    )
    jump = jump_after_change(e, t)
    if jump is not None and jump.step <= step:
        change, since = jump.change, f"{step - jump.change.after:,} steps after a change"
        advice = f"After step {change.after:,}, {change.message}. {undo(e, change)}"
    else:
        change, since = None, ""
        again = "a branch from an earlier checkpoint" if list_checkpoints(e.reader.folder) else "a new run"
        rate = Advice(e).rate()
        advice = Advice(e).helps(f"{again}{f' with {rate}' if rate else ''}", "a check of the pairs of that batch")
    message = f"The {what} stopped being finite at step {step:,}{f', {since}' if since else ''}. {led}{some}. {advice}"
    culprits = tuple(dict.fromkeys(e.pairs["pair"][broken_rows]))[:5] if broken_rows.any() else ()
    return CheckResult(numbers, message, "error", culprits, step, change=change.after if change else None)


def _last(values: pd.Series) -> float:
    return float(values.iloc[-1]) if len(values) else math.nan


@check("Wrong loss at the first step")
def first_step(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether the first loss is the known one at policy = reference; else reference, mask or sign is wrong."""
    checks = [detail for detail in e.events("check")["detail"] if str(detail.get("what", "")).startswith("loss at the first step")]
    if not checks:
        return CheckResult(missing="this objective has no known first loss, or the first step is not done")
    first, expected = float(checks[-1]["found"]), float(checks[-1]["expected"])
    numbers = {"first loss [nats]": first, "expected [nats]": expected}
    if checks[-1].get("passed", True):
        return CheckResult(numbers)
    message = (
        "Policy and reference were not the same model at the first step, so every log-ratio of this run is off. The first loss was "
        f"{first:.4f}, but {e.config['objective'].get('name', 'the objective')} starts at {expected:.4f}. Check for a stale "
        "reference, a changed chat template or an adapter that was trained before, and start again."
    )
    return CheckResult(numbers, message, "error", since=1)


@check("Spikes of the loss", "spike_height", "spike_size")
def loss_spike(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether a single loss is far above those before it."""
    losses = e.recent("loss", AROUND + BEFORE)
    losses = losses[np.isfinite(losses.to_numpy())]
    values = losses.to_numpy()
    if len(values) <= BEFORE:
        return CheckResult(missing=f"the check needs {BEFORE + 1} steps")
    earlier = np.lib.stride_tricks.sliding_window_view(values, BEFORE)[:-1]  # [n - BEFORE, BEFORE]
    middles = np.median(earlier, axis=1)
    deviations = 1.4826 * np.median(np.abs(earlier - middles[:, None]), axis=1)
    heights = (values[BEFORE:] - middles) / np.maximum(np.maximum(deviations, 0.02 * np.abs(middles)), 1e-12)
    large = values[BEFORE:] - middles > t.spike_size * np.maximum(np.abs(middles), LEAST_SPIKE)
    at = int(np.where(large, heights, -np.inf).argmax())
    height, middle = float(heights[at]) if large.any() else -math.inf, float(middles[at])
    step, highest = int(losses.index[BEFORE + at]), float(values[BEFORE + at])
    numbers = {"loss, latest [nats]": float(values[-1]), "loss, recent median [nats]": float(np.median(values))}
    if height <= t.spike_height:
        return CheckResult(numbers | {"highest recent loss [nats]": float(values.max())})
    numbers |= {"loss of the spike [nats]": highest, "median before it [nats]": middle, "height [deviations]": height}
    jump = jump_after_change(e, t)
    if jump is not None and not math.isnan(jump.loss) and jump.step <= step <= jump.change.after + t.change_reach:
        return CheckResult(numbers)  # reported with the change that caused it
    batch = e.reader.pairs.batch(step)
    pairs = () if batch.empty else tuple(batch.sort_values("loss", ascending=False)["pair"])[:3]
    coupled = e.objective is not None and e.objective.couples(training=True)
    together = "; with this objective the loss of a pair depends on its whole batch, so check all of them" if coupled else ""
    rate, times = Advice(e).rate(), number(height) if height < 1000 else "more than 1,000"
    message = (
        f"The loss jumped in one batch: to {number(highest)} at step {step:,}. That is {times} deviations above "
        f"the {number(middle)} of the steps before. Check the pairs of that batch (swapped labels, cut answers){together}."
        f"{f' If it happens again, train with {rate}.' if rate else ''}"
    )
    return CheckResult(numbers, message, "warning", pairs, step)


@check("Parameters out of range")
def parameters(e: Evidence, t: Thresholds) -> CheckResult:
    """Report the objective's warnings about its parameters, from the ranges that the papers and the lab recommend."""
    spec = e.config["objective"]
    if not spec.get("name"):
        return CheckResult(missing="the run records no objective")
    objective = e.objective
    if objective is None:
        return CheckResult(missing=f"the objective {spec['name']} is unknown here, or not valid with these parameters")
    inner = getattr(objective, "base", None)
    every = [objective, inner] if inner is not None and hasattr(inner, "warnings") else [objective]
    warnings = list(dict.fromkeys(message for one in every for message in one.warnings()))
    numbers = {
        f"{one.name}: {key}": float(value)
        for one in every
        for key, value in one
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    for one in every:
        if one.name == "alpha_dpo" and getattr(one, "stop_gradient", True) is False:
            warnings.append(
                "alpha_dpo trains without its stop-gradient. In its paper that reduced the length-controlled win rate from 58.7 to "
                "2.7. Set stop_gradient to true, unless you want to study this effect."
            )
    return CheckResult(numbers, " ".join(warnings), "warning")
