"""Curves of several runs aligned on a common axis, so that their mean can be drawn with a band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lab.store import SCREEN_POINTS

from . import matching
from .axes import interpolated
from .uncertainty import Estimates

DISTANCES = 200
"""Number of distances at which runs are compared by KL."""


def common_places(curves: Sequence[pd.DataFrame], *, whole: bool = False) -> np.ndarray:
    """Return the positions at which the curves of several runs are averaged.

    They are all positions at which a run has a value, at most 1,000 unless `whole`, from where the last of the runs begins:
    before it, a mean would be of fewer runs only because the others began a second earlier.

    Args:
        curves: Results of `ComparedRun.curve` on an axis whose positions ascend (every axis but KL); empty ones are left out.
        whole: Return every position.
    """
    known = [curve.index[curve["mean"].notna()].to_numpy(np.float64) for curve in curves]
    known = [places for places in known if len(places)]
    if not known:
        return np.empty(0)
    every = np.unique(np.concatenate(known))
    every = every[every >= max(places[0] for places in known)]
    if whole or len(every) <= SCREEN_POINTS:
        return every
    return every[np.unique(np.linspace(0, len(every) - 1, SCREEN_POINTS).round().astype(np.int64))]


def aligned(curves: Sequence[pd.DataFrame], places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the moving means of several runs at common positions, and their steps there: [k, n] each.

    Values are interpolated linearly between a run's own points, and NaN before its first and after its last one.
    """
    values = [interpolated(_ascending(curve)[["mean", "step"]], places) for curve in curves]
    return np.stack([frame["mean"] for frame in values]), np.stack([frame["step"] for frame in values])


def aligned_by_kl(
    means: Sequence[pd.DataFrame], distances: Sequence[pd.Series], targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the moving means of several runs at the steps where they first reached some distances, and these steps: [k, n] each.

    Args:
        means: Results of `ComparedRun.means`.
        distances: KL of each run by step, in nats per answer.
        targets: Distances in nats per answer.
    """
    steps = [matching.first_reaches(kl, targets) for kl in distances]
    values = [interpolated(frame[["mean"]], at)["mean"].to_numpy() for frame, at in zip(means, steps)]
    return np.stack(values), np.stack(steps)


def kl_targets(distances: Sequence[pd.Series]) -> np.ndarray:
    """Return evenly spaced distances up to the largest that any of the runs has reached; empty if none has moved."""
    reached = [kl[np.isfinite(kl)].max() for kl in distances if np.isfinite(kl).any()]
    top = max(reached, default=0.0)
    return np.linspace(0, top, DISTANCES) if top > 0 else np.empty(0)


def as_curve(estimates: Estimates, places: np.ndarray, steps: np.ndarray, axis: str) -> pd.DataFrame:
    """Return estimates over runs as a curve: index position on the axis; columns value, mean, step, low, high, runs.

    Positions without any value are left out. `step` is the mean over the runs; `runs` counts the runs behind each value.
    """
    with np.errstate(invalid="ignore"):
        counted = np.isfinite(steps)
        middle = np.where(counted, steps, 0).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
    columns = {"value": estimates.mean, "mean": estimates.mean, "step": middle, "low": estimates.low, "high": estimates.high}
    frame = pd.DataFrame(columns | {"runs": estimates.count}, index=pd.Index(places, name=axis))
    return frame[frame["runs"] > 0]


def _ascending(curve: pd.DataFrame) -> pd.DataFrame:
    """Return a curve with each position once (the last value of a position that repeats, as time may at a coarse clock)."""
    known = curve[curve["mean"].notna()]
    return known[~known.index.duplicated(keep="last")].sort_index()
