"""The number of seeds that an experiment needs to show a difference."""

from __future__ import annotations

import math

from .estimate import LEVEL, Estimate

POWER = 0.8
"""Probability of showing a difference that exists."""
MOST = 1_000


def seeds_needed(estimate: Estimate, difference: float, *, alpha: float = LEVEL, power: float = POWER) -> int | None:
    """Return how many seeds show a true difference with a probability, by the variances of an estimate; at least 2.

    With n seeds the variance of the mean is seed_variance / n + prompt_variance, and the test is Student's with n - 1 degrees of
    freedom.

    Args:
        estimate: An estimate of the same difference, with the variances.
        difference: The true difference to show, above 0.
        alpha: Probability of claiming a difference where there is none.
        power: Probability of showing the difference.

    Returns:
        The number, or None if no number of seeds up to 1,000 is enough, since the prompts alone vary too much.
    """
    from scipy.stats import nct, t

    def reached(seeds: int) -> bool:
        variance = estimate.seed_variance / seeds + estimate.prompt_variance
        if variance <= 0:
            return True
        expected, needed = difference / math.sqrt(variance), float(t.ppf(1 - alpha / 2, seeds - 1))
        shown = float(nct.sf(needed, seeds - 1, expected))  # a difference in the wrong direction is not counted
        return expected > needed + 5 if math.isnan(shown) else shown >= power  # scipy gives NaN far from the threshold

    high = 2
    while not reached(high):
        if high >= MOST:
            return None
        high = min(2 * high, MOST)
    low = high // 2 if high > 2 else 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
