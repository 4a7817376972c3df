"""Checks of single methods: alpha-DPO's statistics of the gap, SGDPO's pilots."""

from __future__ import annotations

import numpy as np

from .advice import Advice
from .checks import CheckResult, check, number, percent
from .evidence import Evidence
from .thresholds import Thresholds

LEAST_RATIO = 0.1
"""Smallest log-ratio (nats) that a pilot is compared with."""


@check("Degenerate margin statistics", "largest_z", "smallest_spread", "smallest_batch")
def margin_statistics(e: Evidence, t: Thresholds) -> CheckResult:
    """Check the spread of alpha-DPO's gap, whose z-scores need one that is neither zero nor dominated by outliers."""
    gap, z, target = e.term("gap"), e.term("z"), e.term("target_margin")
    if not len(gap) or not len(z):
        return CheckResult(missing="only alpha-DPO has these statistics")
    spec, size = e.config["objective"], e.setting("batch_size", 1)
    own = spec.get("base") if isinstance(spec.get("base"), dict) else spec
    alpha, normalize = float(own.get("alpha", 1.0)), own.get("normalize", "ema")
    warm = np.ceil(e.setting("warmup_ratio", 0.0) * e.setting("steps", 0)) + 10
    if e.done < min(warm, 50) or len(gap) < 6:
        return CheckResult(missing="policy and reference hardly differ until the warm-up is over")
    spread, widest = _within_batches(e, "gap"), float(np.max(np.abs(z)))
    numbers = {
        "spread of the gap in a batch [nats/token]": spread,
        "largest recent |z|": widest,
        "spread of the target margins": float(np.std(target)) if len(target) else 0.0,
        "pairs per batch": size,
    }
    troubles = []
    advice = Advice(e)
    corrected = f'{advice.prefix}ema_variant "corrected"' if normalize == "ema" and own.get("ema_variant") == "official" else ""
    larger = "a larger batch" if normalize in ("ema", "batch") else ""
    if size < t.smallest_batch and normalize in ("ema", "batch"):
        troubles.append(
            f"A batch of {size:.0f} pairs is too small for a mean and a spread of the gap (needed: {t.smallest_batch:.0f}). "
            f'Train with a larger batch_size, or with {advice.prefix}normalize "dataset".'
        )
    if size > 1 and spread < t.smallest_spread:
        troubles.append(
            f"The gaps of a batch are all alike (spread {number(spread)} nats/token), so z (up to {number(widest)}) is noise. "
            "Check that the pairs are not copies of one another and that the policy moves."
        )
    elif size > 1 and alpha > 0 and len(target) and np.ptp(target) < 1e-6:
        troubles.append(
            f"Every pair has the same target margin ({number(float(np.median(target)))}) although alpha is {number(alpha)}, which "
            "is SimPO. Check normalize and the spread of the gap."
        )
    if widest > t.largest_z and spread >= t.smallest_spread:
        troubles.append(
            f"A pair has z {number(widest)}, far from the others, which sets a margin that no pair can reach. "
            f"{advice.helps(corrected, larger) or 'Check the pairs named here.'}"
        )
    if not troubles:
        return CheckResult(numbers)
    message = f"The margin statistics are degenerate. {' '.join(troubles)}"
    return CheckResult(
        numbers, message, "warning", e.worst(-np.abs(z)) if widest > t.largest_z else e.worst(np.abs(gap - np.median(gap)))
    )


def _within_batches(e: Evidence, term: str) -> float:
    """Return the standard deviation of a term within a batch, median over the latest batches; 0 for batches of one pair."""
    return float(e.pairs.groupby("step")[term].std(ddof=0).median())


@check("Ineffective pilots", "pilot_share", "pinned_weight")
def pilots_stuck(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether SGDPO's pilots are small against their log-ratios, or the weight of one side is pinned near 0."""
    sides = ("chosen", "rejected")
    pilots = {side: np.abs(e.term(f"pilot_{side}")) for side in sides}
    if not all(len(values) for values in pilots.values()):
        return CheckResult(missing="only SGDPO has pilots")
    ratios = {side: np.abs(e.term(f"log_ratio_{side}")) for side in sides}
    share = {}
    for side in sides:
        moving = ratios[side] > LEAST_RATIO
        if moving.sum() >= 8:
            share[side] = float(np.median(pilots[side][moving] / ratios[side][moving]))
    weights = {side: (e.now(f"weight_{side}"), e.start(f"weight_{side}")) for side in sides}
    left = {side: abs(now.value) / abs(start.value) for side, (now, start) in weights.items() if now and start and start.value != 0}
    numbers = {f"pilot of the {side} against its log-ratio [share]": value for side, value in share.items()}
    numbers |= {f"weight of the {side} against its start [share]": value for side, value in left.items()}
    if not share and len(left) < 2:
        return CheckResult(missing="the log-ratios are still too small")
    advice = Advice(e)
    troubles, worst = [], np.empty(0)
    still = [side for side, value in share.items() if value < t.pilot_share]
    if still:
        named = " and ".join(f"the {side} ({percent(share[side])} of its log-ratio)" for side in still)
        higher = [advice.higher("r1" if side == "chosen" else "r2") for side in still]
        helps = advice.helps(" and ".join(remedy for remedy in higher if remedy)) or "Check the pairs named here."
        troubles.append(f"The pilot of {named} hardly moves, so it has no effect. {helps}")
        worst = pilots[still[0]] / np.maximum(ratios[still[0]], 1e-9)
    pinned = [side for side, value in left.items() if value < t.pinned_weight]
    if len(pinned) == 1 and max(left.values()) > 5 * t.pinned_weight:
        side = pinned[0]
        other = sides[1 - sides.index(side)]
        troubles.append(
            f"The weight of the {side} side is pinned at {percent(left[side])} of its start while the {other} keeps "
            f"{percent(left.get(other, 0.0))}, so only one side is trained. {advice.helps(advice.lower('beta'), advice.rate())}"
        )
        worst = np.abs(e.term(f"weight_{side}"))
    if not troubles:
        return CheckResult(numbers)
    return CheckResult(numbers, f"The pilots are stuck. {' '.join(troubles)}".rstrip(), "warning", e.worst(worst))
