"""Verdicts: what the interval of a claim's number says under the rule that was written down before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lab.experiments.statistics import Estimate

from .claim import Region
from .measuring import Measured

Verdict = Literal["confirmed", "refuted", "not shown", "preliminary"]


@dataclass(frozen=True)
class Judged:
    """A claim's number with its verdict.

    Attributes:
        measured: The number.
        verdict: "preliminary" while runs are missing.
        p: The smallest level at which the interval would still give this verdict; NaN unless confirmed or refuted.
        corrected: Whether the verdict also holds when all claims of a report are corrected together (Holm).
    """

    measured: Measured
    verdict: Verdict
    p: float = math.nan
    corrected: bool = False


def judge(measured: Measured) -> Judged:
    """Return the verdict on a claim; `corrected` is left to `correct_together`."""
    estimate, region = measured.mean.estimate, measured.claim.confirmed
    if not measured.complete or estimate is None:
        return Judged(measured, "preliminary")
    verdict = verdict_of(estimate.interval(), region)
    return Judged(measured, verdict, math.nan if verdict == "not shown" else p_value(estimate, region))


def verdict_of(interval: tuple[float, float], confirmed: Region) -> Verdict:
    """Return confirmed if an interval lies inside the region, refuted if it lies wholly outside, else not shown.

    The bounds of the region do not belong to it, and an interval that ends on one lies neither inside nor outside.
    """
    low, high = interval
    if confirmed.low < low and high < confirmed.high:
        return "confirmed"
    return "refuted" if high < confirmed.low or low > confirmed.high else "not shown"


def p_value(estimate: Estimate, region: Region) -> float:
    """Return the probability of an interval that misses the nearest bound of the region by so much: two-sided, by Student's t."""
    from scipy.stats import t

    distance = min(abs(estimate.mean - bound) for bound in (region.low, region.high) if math.isfinite(bound))
    return max(2 * float(t.sf(distance / b.error, b.degrees)) if b.error > 0 else 0.0 for b in estimate.bounds)


def correct_together(judged: Sequence[Judged], alpha: float = 0.05) -> list[Judged]:
    """Return the verdicts with `corrected` by Holm's procedure over all of them (Holm 1979); without a p value they count too.

    A claim without a p value counts as one comparison that shows nothing.
    """
    order = sorted(range(len(judged)), key=lambda at: (math.isnan(judged[at].p), judged[at].p))
    result, holds = list(judged), True
    for rank, at in enumerate(order):
        holds = holds and judged[at].p < alpha / (len(judged) - rank)
        result[at] = replace(judged[at], corrected=holds)
    return result
