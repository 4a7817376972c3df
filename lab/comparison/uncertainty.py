"""Means and differences over runs with 95 % t intervals, for many places or pairs at once.

Values of a few runs (seeds) are compared here, so intervals use Student's t with the variance of these runs; a missing or
non-finite value leaves its run out at that place, and `count` tells how many remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimates:
    """Estimates at n places.

    Attributes:
        mean: Mean or difference of means, [n]; NaN without values.
        low: Lower end of the 95 % interval, [n]; NaN with fewer than two runs (on a side).
        high: Upper end.
        count: Number of runs behind each value, [n]; of the smaller side for a difference that is not paired.
        p: Two-sided p value of a mean or difference of 0, [n]; NaN without an interval.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    p: np.ndarray


def over_runs(values: np.ndarray) -> Estimates:
    """Return the mean over runs with its interval: mean +- t(0.975, k - 1) s / sqrt(k).

    Args:
        values: One row per run, [k, n]; NaN or infinite where a run has none.
    """
    mean, variance, count = _moments(values)
    return _estimates(mean, variance / np.maximum(count, 1), np.maximum(count - 1, 0), count)


def between(one: np.ndarray, other: np.ndarray, *, paired: bool) -> Estimates:
    """Return the difference of the means of two sets of runs with its interval.

    Args:
        one: One row per run, [k, n].
        other: The same for the other set, [m, n]; for paired runs the rows correspond, and k = m.
        paired: Use the differences within pairs of runs; otherwise Welch's interval for unequal variances.
    """
    if paired:
        return over_runs(one - other)
    mean_one, variance_one, count_one = _moments(one)
    mean_other, variance_other, count_other = _moments(other)
    parts = variance_one / np.maximum(count_one, 1), variance_other / np.maximum(count_other, 1)
    squared = parts[0] + parts[1]
    below = parts[0] ** 2 / np.maximum(count_one - 1, 1) + parts[1] ** 2 / np.maximum(count_other - 1, 1)
    least = np.minimum(count_one, count_other)
    degrees = np.divide(squared**2, below, out=np.maximum(count_one + count_other - 2, 1).astype(float), where=below > 0)
    return _estimates(mean_one - mean_other, squared, np.where(least > 1, degrees, 0), least)


def adjusted(p: np.ndarray) -> np.ndarray:
    """Return p values adjusted for many comparisons by Benjamini and Hochberg (1995): q, [n]; NaN where p is NaN.

    Of the comparisons with q <= 0.05, 5 % are expected to be false discoveries.
    """
    from scipy.stats import false_discovery_control  # takes half a second to import

    q, known = np.full(len(p), np.nan), ~np.isnan(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, sample variance and count of every column, over its finite values."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    mean = np.divide(filled.sum(axis=0), count, out=np.full(values.shape[1], np.nan), where=count > 0)
    squares = np.where(known, filled - np.where(count > 0, mean, 0.0), 0.0) ** 2
    variance = np.divide(squares.sum(axis=0), count - 1, out=np.full(values.shape[1], np.nan), where=count > 1)
    return mean, variance, count


def _estimates(mean: np.ndarray, squared: np.ndarray, degrees: np.ndarray, count: np.ndarray) -> Estimates:
    """Return estimates from the squared standard errors and degrees of freedom; no interval where there are 0 degrees."""
    from scipy.special import stdtr, stdtrit

    some = degrees > 0
    df = np.where(some, degrees, 1.0)
    error = np.sqrt(np.where(some, squared, np.nan))
    half = stdtrit(df, 0.975) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, 2 * stdtr(df, -np.abs(mean / error)), np.where(mean == 0, 1.0, 0.0))
    return Estimates(mean, mean - half, mean + half, count, np.where(some, p, np.nan))
