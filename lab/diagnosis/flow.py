"""Checks of the gradient: whether it vanished, whether its two sides cancel, whether the learning rate fits."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd

from lab.store.folder import list_checkpoints

from .advice import Advice, pushes_more
from .checks import CheckResult, check, number, percent
from .evidence import Evidence, Level, above
from .probability import TOO_EARLY, chosen_falls, rejected_collapses
from .thresholds import Thresholds

SIDES = ("chosen", "rejected")

SLOW_AFTER = 0.2
"""Share of the steps after which a policy that has not moved counts as slow."""

UNSTEADY = 0.6
"""Relative deviation of the weights in the first steps from which later ones cannot be compared with them."""


@check("No gradient left", "saturated_weight", "saturated_share")
def saturated(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether most pairs have hardly any weight left, so that training on them has no effect."""
    starts = [e.start(name) for name in ("weight_chosen", "weight_rejected")]
    weights = np.abs(e.term("weight_chosen")) + np.abs(e.term("weight_rejected"))
    if any(start is None for start in starts) or len(weights) < 12:
        return CheckResult(missing=TOO_EARLY)
    middle = np.median(weights)
    start = sum(abs(one.value) for one in starts if one is not None)
    if start == 0 or any(one is not None and one.error * math.sqrt(one.count) > UNSTEADY * abs(one.value) for one in starts):
        return CheckResult(missing="the weights of the first steps vary too much to compare with")
    share = float((weights < t.saturated_weight * start).mean())
    numbers = {
        "pairs without gradient [share]": share,
        "weight of a pair now, median [1/token]": float(middle),
        "weight of a pair to compare with [1/token]": start,
    }
    if share < t.saturated_share or share == 0:
        return CheckResult(numbers)
    at = tuple(np.nanmedian(e.term(f"log_ratio_{side}")) if len(e.term(f"log_ratio_{side}")) else math.nan for side in SIDES)
    fallen = rejected_collapses(e, t).message or chosen_falls(e, t).message
    at = (math.nan, math.nan) if fallen else at  # a stronger push would lower the answers further
    advice = Advice(e, (float(at[0]), float(at[1])) if np.isfinite(at).all() else None)
    began = f"since step {e.settled:,}, when the objective's parameters changed" if e.settled > e.first_step else "at the start"
    message = (
        f"{percent(share)} of the latest {len(weights)} pairs have no gradient left. Their weight is below "
        f"{percent(t.saturated_weight)} of the {number(start)} that pairs had {began} (median now {number(float(middle))}), so "
        "these pairs are learned. "
        f"{advice.helps('fewer steps', advice.parameter(pushes_more), 'harder pairs')}"
    )
    return CheckResult(numbers, message, "warning", e.worst(weights))


@check("Gradients of both sides cancel", "opposed_cosine", "opposed_share")
def sides_opposed(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether the chosen and the rejected part of the gradient cancel, as for answers that hardly differ."""
    probes = e.layers[(e.layers["norm_chosen"] > 0) & (e.layers["norm_rejected"] > 0)]
    if probes["step"].nunique() < 2:
        return CheckResult(missing="the check needs two probes of the gradient")
    c, r, cosine = (probes[name].to_numpy(np.float64) for name in ("norm_chosen", "norm_rejected", "cosine"))
    left = np.sqrt(np.maximum(c * c + r * r + 2 * c * r * cosine, 0)) / (c + r)
    by_layer = probes.assign(left=left).groupby("layer", sort=False)[["cosine", "left"]].median()
    opposed = by_layer[by_layer["cosine"] < t.opposed_cosine]
    share = len(opposed) / len(by_layer)
    lowest = by_layer["cosine"].idxmin()
    numbers = {
        "layers whose sides are opposed [share]": share,
        "cosine, median over the layers": float(by_layer["cosine"].median()),
        f"cosine in {lowest}, the lowest": float(by_layer["cosine"].min()),
        "gradient left of both sides' norms [share]": float(by_layer["left"].median()),
    }
    if share < t.opposed_share or not len(opposed):
        return CheckResult(numbers)
    pairs, overlap = _alike(e)
    alike = f" Their answers share {percent(overlap)} of their tokens." if overlap is not None else ""
    message = (
        f"The gradients of both sides cancel. In {len(opposed)} of {len(by_layer)} layers those of chosen and rejected are opposed "
        f"(median cosine {opposed['cosine'].median():.2f}), and {percent(float(opposed['left'].median()))} of "
        f"their norms is left.{alike} Use pairs that differ in more than a few words; otherwise both sides fall together."
    )
    return CheckResult(numbers, message, "warning", pairs)


def _alike(e: Evidence) -> tuple[tuple[str, ...], float | None]:
    """Return the pairs of the latest stored step by the share of tokens both answers have, and the median share."""
    steps = [step for step in e.reader.tokens.steps() if step <= e.step]
    table = e.reader.tokens.read(steps[-1]) if steps else pd.DataFrame()
    if table.empty:
        return (), None
    shares = {}
    for pair, sides in table.groupby("pair"):
        ids = [Counter(np.asarray(cell).tolist()) for cell in sides["ids"]]
        if len(ids) == 2:
            shares[str(pair)] = sum((ids[0] & ids[1]).values()) / max(1, *(sum(count.values()) for count in ids))
    ordered = tuple(sorted(shares, key=lambda pair: -shares[pair]))
    return ordered[:5], float(np.median(list(shares.values()))) if shares else None


@check("Learning rate too high", "gradient_growth", "loss_rise", "kl_limit", "valid_fall")
def rate_too_high(e: Evidence, t: Thresholds) -> CheckResult:
    """Check for at least two signs: growing gradient, loss above its start, policy far from the reference, invalid answers.

    One sign alone may have another cause.
    """
    now, start = e.now("grad_norm"), e.start("grad_norm")
    loss, first_loss = e.now("loss"), _first_loss(e)
    if now is None or start is None or loss is None or first_loss is None:
        return CheckResult(missing=TOO_EARLY)
    numbers: dict[str, float] = {"gradient norm, times its start": now.value / max(start.value, 1e-12)}
    numbers |= {"loss now [nats]": loss.value, "loss at the start [nats]": first_loss.value}
    signs = []
    if now.value > t.gradient_growth * start.value and above(now, start, 0):
        signs.append(f"the gradient norm grew from {number(start.value)} to {number(now.value)}")
    if above(loss, first_loss, t.loss_rise * abs(first_loss.value)):
        signs.append(f"the loss rose from {number(first_loss.value)} to {number(loss.value)}")
    kl, lengths, valid = (e.evaluations(name) for name in ("eval/kl", "eval/completions/mean_length", "eval/valid"))
    if len(kl) and len(lengths):
        tokens = max(1.0, float(lengths.iloc[-1]))
        before = "the reference" if e.has_reference else "the initial model"
        numbers[f"KL from {before} [nats/token]"] = float(kl.iloc[-1]) / tokens
        if kl.iloc[-1] > t.kl_limit * tokens:
            signs.append(f"the KL from {before} is {number(float(kl.iloc[-1]))} nats per answer of {tokens:.0f} tokens")
    if len(valid) > 1:
        numbers["valid answers, change [share]"] = float(valid.iloc[-1] - valid.iloc[0])
        if valid.iloc[0] - valid.iloc[-1] > t.valid_fall:
            signs.append(f"valid answers fell from {percent(float(valid.iloc[0]))} to {percent(float(valid.iloc[-1]))}")
    if len(signs) < 2:
        return CheckResult(numbers)
    rate = e.setting("learning_rate", math.nan)
    again = "A branch from an early checkpoint" if list_checkpoints(e.reader.folder) else "A new run"
    advice = f"{again} with a rate of about {rate / 3:.1g}, or fewer steps, would help." if rate > 0 else ""
    listed = f"{', '.join(signs[:-1])} and {signs[-1]}"
    message = f"The learning rate {rate:g} is too high here. {listed[0].upper()}{listed[1:]}. {advice}"
    return CheckResult(numbers, message, "warning", e.worst(-e.term("loss")))


def _first_loss(e: Evidence) -> Level | None:
    """Return the loss before training: the known first loss if the objective has one, otherwise that of the first steps."""
    known = [detail for detail in e.events("check")["detail"] if detail.get("what") == "loss at the first step"]
    known = known if e.settled == e.first_step else []  # with other parameters the first loss differs
    return Level(float(known[-1]["found"]), 0.0, 1) if known and e.start("loss") else e.start("loss")


@check("Learning rate too low", "smallest_move")
def rate_too_low(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether the policy has hardly moved after a fifth of the steps."""
    steps = e.setting("steps", 0)
    needed = max(20, SLOW_AFTER * (steps - e.first_step))
    margins = (e.term("log_ratio_chosen") - e.term("log_ratio_rejected")) / e.tokens
    margins = margins[np.isfinite(margins)]
    if e.done < needed or len(margins) < 12:
        return CheckResult(missing="the check needs a fifth of the steps, and an objective with a reference")
    middle, size = float(np.median(margins)), float(np.median(np.abs(margins)))
    rate = e.setting("learning_rate", math.nan)
    numbers = {
        "difference of the log-ratios, median [nats/token]": middle,
        "its size, median [nats/token]": size,
        "learning rate, peak": rate,
    }
    # bfloat16 rounding scatters log-ratios around 0; training shifts their median.
    if abs(middle) >= t.smallest_move or size >= 20 * t.smallest_move:
        return CheckResult(numbers)
    advice = "Set a learning rate above 0." if rate == 0 else f"A rate ten times as high ({10 * rate:.2g}) would help."
    message = (
        f"The policy has hardly moved from the reference. After {e.done:,} of {steps - e.first_step:,.0f} steps at learning rate "
        f"{rate:g} the log-ratios of chosen and rejected differ by {number(abs(middle) * e.tokens)} nats per answer. {advice}"
    )
    return CheckResult(numbers, message, "warning")
