"""Runs at the same distance from the reference: an objective that moves the policy further is not better for that alone.

Gao et al. 2022 (arXiv 2210.10760) draw reward against KL for this reason; the lab reads both at its looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from .axes import interpolated


def first_reach(kl: pd.Series, target: float) -> float:
    """The step, as a fraction, at which the distance first reaches `target`, straight between looks; NaN if it never does.

    kl: nats an answer by step.
    """
    known = kl.dropna()
    if known.empty:
        return math.nan
    steps, values = known.index.to_numpy(np.float64), known.to_numpy(np.float64)
    there = np.flatnonzero(values >= target)
    if not len(there):
        return math.nan
    last = int(there[0])
    if last == 0 or values[last] == target:
        return float(steps[last])
    share = (target - values[last - 1]) / (values[last] - values[last - 1])
    return float(steps[last - 1] + share * (steps[last] - steps[last - 1]))


def common_reach(distances: Mapping[str, pd.Series]) -> float:
    """The largest distance that all of some runs have reached; NaN where one has none yet."""
    highest = [kl.dropna().max() for kl in distances.values()]
    return float(min(highest)) if highest and not any(pd.isna(high) for high in highest) else math.nan


def at_kl(frames: Mapping[str, pd.DataFrame], distances: Mapping[str, pd.Series], target: float) -> pd.DataFrame:
    """What runs are at the same distance: one row a run, its `step` there and every column of its frame, linear between values.

    frames: index `step`.   distances: nats an answer by step.   target: nats. NaN for a run that does not come so far.
    """
    rows = {}
    for label, frame in frames.items():
        step = first_reach(distances[label], target)
        values = interpolated(frame, np.array([step])) if not math.isnan(step) else pd.DataFrame(index=[0], columns=frame.columns)
        rows[label] = {"step": step, **values.iloc[0].to_dict()}
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)
