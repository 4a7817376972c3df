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
    known = kl.dropna()
    if known.empty:
        return math.nan
    steps, values = known.index.to_numpy(np.float64), known.to_numpy(np.float64)
    reached = np.flatnonzero(values >= target)
    if not len(reached):
        return math.nan
    last = int(reached[0])
    if last == 0 or values[last] == target:
        return float(steps[last])
    share = (target - values[last - 1]) / (values[last] - values[last - 1])
    return float(steps[last - 1] + share * (steps[last] - steps[last - 1]))


def common_reach(distances: Mapping[str, pd.Series]) -> float:
    """Return the largest distance that every run has reached; NaN if a run has none yet. Distances in nats per answer, by step."""
    highest = [kl.dropna().max() for kl in distances.values()]
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
