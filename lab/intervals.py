"""Means and shares with their 95 % intervals, for everything that is judged on a sample of prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, pvariance, stdev

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; low and high are NaN where one value alone says nothing of the spread."""

    mean: float
    low: float
    high: float


def standard_error(values: Sequence[float]) -> float:
    """s / sqrt(n) of independent values; NaN for fewer than two."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval by the normal approximation, mean +- 1.96 s / sqrt(n); give independent values,
    that is one per prompt. Raises ValueError for no values."""
    if not values:
        raise ValueError("There are no values to average; give at least one.")
    middle, half = fmean(values), Z * standard_error(values)
    return Interval(middle, middle - half, middle + half)


def positive_interval(values: Sequence[float]) -> Interval:
    """Mean of values that are never negative, one per prompt, with a 95 % interval that is not negative either: the normal
    approximation for the logarithm of the mean, mean * exp(+- 1.96 s / (mean sqrt(n))).

    That is the delta method (Casella & Berger 2002, section 5.5.4). With many values it is the interval of `mean_interval`; with
    few it reaches further up than down, as such values, most small and some large, need. s / sqrt(n) is at most the mean, so no
    end is further off than a factor of 7.1. Raises ValueError for no values, or for a negative one.
    """
    if any(value < 0 for value in values):
        raise ValueError("A mean of values that are never negative was asked for, and one is; check what is being measured.")
    middle = mean_interval(values).mean
    factor = math.exp(Z * standard_error(values) / middle) if middle > 0 else 1.0
    return Interval(middle, middle / factor, middle * factor)


def share_interval(values: Sequence[float]) -> Interval:
    """Mean of values in [0, 1], one per prompt, with Wilson's 95 % interval (J. Am. Stat. Assoc. 22, 1927), which stays inside
    [0, 1] and says something also where every prompt was won.

    A prompt whose answers were compared several times has a value between 0 and 1 and says more than one comparison; n is then the
    effective sample size n p (1 - p) / s^2 (Kish 1965), never less than the number of prompts. Raises ValueError for no values, or
    for one outside of [0, 1].
    """
    if not values or not all(0 <= value <= 1 for value in values):
        raise ValueError("A share is the mean of values between 0 and 1, at least one; check what is being counted.")
    p, variance = fmean(values), pvariance(values)
    n = len(values) * (p * (1 - p) / variance if variance > 0 else 1.0)
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(max(p * (1 - p), 0.0) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return Interval(p, min(max(middle - half, 0.0), p), max(min(middle + half, 1.0), p))


def win_rate(rewards: Sequence[float], reference: Sequence[float]) -> float:
    """Share of all pairs (one of `rewards`, one of `reference`) that the first wins, ties half, in [0, 1].

    Answers to one prompt; a policy against samples of itself has 0.5 in expectation. Raises ValueError where one is empty.
    """
    if not rewards or not reference:
        raise ValueError("A win rate compares answers with reference answers; give at least one of each.")
    wins = sum((a > b) + 0.5 * (a == b) for a in rewards for b in reference)
    return wins / (len(rewards) * len(reference))
