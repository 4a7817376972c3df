"""Means and shares with 95 % intervals, for measurements on a sample of prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, pvariance, stdev

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; low and high are NaN for a single value."""

    mean: float
    low: float
    high: float


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error s / sqrt(n) of independent values; NaN for fewer than two."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its 95 % interval by the normal approximation, mean +- 1.96 s / sqrt(n).

    Args:
        values: Independent values, one per prompt.

    Raises:
        ValueError: If there are no values.
    """
    if not values:
        raise ValueError("There are no values to average; give at least one.")
    middle, half = fmean(values), Z * standard_error(values)
    return Interval(middle, middle - half, middle + half)


def positive_interval(values: Sequence[float]) -> Interval:
    """Return the mean of non-negative values with a 95 % interval that is not negative: mean * exp(+- 1.96 s / (mean sqrt(n))).

    This is the normal approximation for the logarithm of the mean by the delta method (Casella & Berger 2002, section 5.5.4). For
    many values it approaches `mean_interval`; for few skewed values it extends further up than down. Because s / sqrt(n) is at
    most the mean, each end is within a factor of 7.1 of the mean.

    Args:
        values: Independent non-negative values, one per prompt.

    Raises:
        ValueError: If there are no values, or one is negative.
    """
    if any(value < 0 for value in values):
        raise ValueError("This interval is for values that are never negative, but one is; check what is being measured.")
    middle = mean_interval(values).mean
    factor = math.exp(Z * standard_error(values) / middle) if middle > 0 else 1.0
    return Interval(middle, middle / factor, middle * factor)


def share_interval(values: Sequence[float]) -> Interval:
    """Return the mean of values in [0, 1] with Wilson's 95 % interval (J. Am. Stat. Assoc. 22, 1927).

    The interval stays inside [0, 1] and has a width also if all values are 1. A prompt whose answers were compared several times
    has a value between 0 and 1; n is then the effective sample size n p (1 - p) / s^2 (Kish 1965), at least the number of prompts.

    Args:
        values: Independent values in [0, 1], one per prompt.

    Raises:
        ValueError: If there are no values, or one is outside [0, 1].
    """
    if not values or not all(0 <= value <= 1 for value in values):
        raise ValueError("A share is the mean of values between 0 and 1, at least one; check what is being counted.")
    p, variance = fmean(values), pvariance(values)
    n = len(values) * (p * (1 - p) / variance if variance > 0 else 1.0)
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(max(p * (1 - p), 0.0) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return Interval(p, min(max(middle - half, 0.0), p), max(min(middle + half, 1.0), p))


def win_rate(rewards: Sequence[float], reference: Sequence[float]) -> float:
    """Return the share of comparisons that the policy's answers to one prompt win against the reference's, in [0, 1].

    Every answer is compared with every reference answer; a tie counts one half. A policy against its own samples has 0.5 in
    expectation. Raises ValueError if either sequence is empty.
    """
    if not rewards or not reference:
        raise ValueError("A win rate compares answers with reference answers; give at least one of each.")
    wins = sum((a > b) + 0.5 * (a == b) for a in rewards for b in reference)
    return wins / (len(rewards) * len(reference))
