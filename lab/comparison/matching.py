"""Compare runs at the same distance from the reference: moving the policy further is not better by itself.

Gao et al. 2022 (arXiv 2210.10760) plot reward against KL for this reason; both are measured at evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from .axes import interpolated


def first_reach(kl: pd.Series, target: float) -> float:
    """Return the (fractional) step at which a distance first reaches `target`, linear between evaluations; NaN if it never does.

    Args:
        kl: Distance by step, in nats per answer.
        target: Distance in nats per answer.
    """
    return float(first_reaches(kl, np.array([target], np.float64))[0])


def first_reaches(kl: pd.Series, targets: np.ndarray) -> np.ndarray:
    """Return `first_reach` for many distances, [n] -> [n]."""
    known = kl[np.isfinite(kl)]  # no distance is passed at a known step on the way to infinity
    if known.empty:
        return np.full(len(targets), np.nan)
    steps, values = known.index.to_numpy(np.float64), known.to_numpy(np.float64)
    reached = np.searchsorted(np.maximum.accumulate(values), targets, side="left")
    ever = reached < len(values)
    at = np.where(ever, reached, 0)
    before = np.maximum(at - 1, 0)
    rise = values[at] - values[before]
    share = np.divide(targets - values[before], rise, out=np.ones(len(targets)), where=rise > 0)
    exact = np.where(at == 0, steps[0], steps[before] + share * (steps[at] - steps[before]))
    return np.where(ever, exact, np.nan)


def common_reach(distances: Mapping[str, pd.Series]) -> float:
    """Return the largest distance that every run has reached; NaN if a run has none yet. Distances in nats per answer, by step."""
    highest = [kl[np.isfinite(kl)].max() for kl in distances.values()]
    return float(min(highest)) if highest and not any(pd.isna(high) for high in highest) else math.nan


def at_kl(frames: Mapping[str, pd.DataFrame], distances: Mapping[str, pd.Series], target: float) -> pd.DataFrame:
    """Return the values of several runs at the same distance from the reference.

    Args:
        frames: Values by run; index `step`.
        distances: Distance by run, in nats per answer by step.
        target: Distance in nats per answer.

    Returns:
        One row per run: the `step` at which it first reached the distance, and every column of its frame, interpolated linearly
        to that step; NaN for a run that never reached it.
    """
    rows = {}
    for label, frame in frames.items():
        step = first_reach(distances[label], target)
        values = interpolated(frame, np.array([step])) if not math.isnan(step) else pd.DataFrame(index=[0], columns=frame.columns)
        rows[label] = {"step": step, **values.iloc[0].to_dict()}
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)
