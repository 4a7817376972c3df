"""What curves of several runs are drawn against: steps, pairs seen, time, or distance from the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Axis:
    """scalar: the recorded number that says where a step lies on the axis, or "" where the step alone does."""

    title: str
    message: str
    scalar: str = ""


AXES = {
    "step": Axis("step", "Optimizer steps; a branch goes on counting from its parent's."),
    "pairs": Axis("pairs seen", "Pairs trained on so far, repeated ones again: steps times batch size. Fair between batch sizes."),
    "trained": Axis(
        "time trained [s]", "Seconds that the steps took; looks, pauses and waiting do not count.", scalar="seconds/trained"
    ),
    "clock": Axis("time since the run began [s]", "Seconds on the clock; looks, pauses and waiting count.", scalar="seconds/clock"),
    "kl": Axis(
        "KL(π‖ref) [nats per answer]",
        "Distance from the reference, measured at the looks: a point is a look. What was recorded at every step stands there with "
        "its moving mean at the look; between looks the line is straight.",
        scalar="eval/kl",
    ),
}
"""Every axis by name."""


def pairs_seen(steps: np.ndarray, batch_size: int, *, start: int = 0, before: int | None = None) -> np.ndarray:
    """Pairs trained on once `steps` steps are done, [n] -> [n].

    start: where a branch began.   before: the batch size up to there; None: the same.
    """
    earlier = np.minimum(steps, start) * (batch_size if before is None else before)
    return earlier + np.maximum(steps - start, 0) * batch_size


def by(frame: pd.DataFrame, axis: str, places: pd.Series | None = None) -> pd.DataFrame:
    """A frame by step as a frame by another axis; the rows keep their order in time, and the column `step` says which they were.

    frame: index `step`, rising.   places: where steps lie on the axis, a number for some steps; needed for all but "step".
    Between two steps with a place the place is interpolated, beyond the first and the last it is theirs. "kl" is known at the
    looks alone: there it is the values that are interpolated, to the steps of the looks; looks outside the frame's steps are left
    out.
    Raises ValueError for an axis that is not in AXES.
    """
    if axis not in AXES:
        raise ValueError(f"There is no axis {axis!r}; choose one of {', '.join(AXES)}.")
    if axis == "step":
        return frame.assign(step=frame.index)
    known = pd.Series(dtype=np.float64) if places is None else places.dropna()
    if frame.empty or known.empty:
        return frame.iloc[:0].assign(step=pd.Series(dtype=np.int64)).rename_axis(axis)
    if axis != "kl":
        found = np.interp(frame.index.to_numpy(np.float64), known.index.to_numpy(np.float64), known.to_numpy())
        return frame.assign(step=frame.index).set_axis(pd.Index(found, name=axis))
    looks = known[(known.index >= frame.index[0]) & (known.index <= frame.index[-1])]
    at = interpolated(frame, looks.index.to_numpy())
    return at.assign(step=at.index).set_axis(pd.Index(looks.to_numpy(), name=axis))


def interpolated(frame: pd.DataFrame, steps: np.ndarray) -> pd.DataFrame:
    """The columns of a frame by step at other steps, linear in between; NaN outside of what a column has."""
    columns = {}
    for name in frame.columns:
        known = frame[name].dropna()
        if known.empty:
            columns[name] = np.full(len(steps), np.nan)
            continue
        columns[name] = np.interp(steps, known.index.to_numpy(np.float64), known.to_numpy(np.float64), left=np.nan, right=np.nan)
    return pd.DataFrame(columns, index=pd.Index(steps, name="step"))
