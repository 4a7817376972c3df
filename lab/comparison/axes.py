"""Horizontal axes for the curves of several runs: steps, pairs seen, time, or distance from the reference (KL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lab.errors import FigureError, did_you_mean
from lab.glossary import entry


@dataclass(frozen=True)
class Axis:
    """A horizontal axis.

    Attributes:
        title: Title with unit.
        meaning: Explanation for a help text.
        scalar: Recorded scalar that gives a step's position on the axis, or "" if the step number suffices.
    """

    title: str
    meaning: str
    scalar: str = ""


def _of_scalar(scalar: str, title: str, more: str = "") -> Axis:
    known = entry(scalar)
    return Axis(f"{title} [{known.unit}]", known.meaning + more, scalar)


AXES = {
    "step": Axis("step", "Optimizer steps; a branch continues the count of its parent."),
    "pairs": Axis("pairs seen", "Pairs trained on so far, repetitions included: steps times batch size. Fair between batch sizes."),
    "trained": _of_scalar("seconds/trained", "time trained"),
    "clock": _of_scalar("seconds/clock", "time since the run began"),
    "kl": _of_scalar(
        "eval/kl",
        entry("eval/kl").symbol,
        " It is measured at evaluations, so each point is one; a scalar recorded at every step is shown by its moving mean there.",
    ),
}
"""The axes by name."""


def require_recorded(names: Sequence[str], recorded: Sequence[str], axis: str = "step", compared: int | None = None) -> None:
    """Raise FigureError unless scalars of a comparison can be drawn; runs that have recorded nothing yet may get any.

    Args:
        names: Scalars that are wanted.
        recorded: Scalars that any of the runs has recorded.
        axis: Name of the axis that is wanted.
        compared: Number of runs, where a difference of two is wanted.
    """
    if axis not in AXES:
        raise FigureError(f"There is no axis {axis!r}; choose one of {', '.join(AXES)}.{did_you_mean(axis, AXES)}")
    if compared is not None and compared < 2:
        raise FigureError("A difference needs two runs, and one is given; compare it with another one.")
    for name in names if recorded else ():
        if name not in recorded:
            raise FigureError(
                f"None of these runs has recorded a scalar {name!r}; a comparison draws one scalar, such as {recorded[0]}, and "
                f"`names()` lists them.{did_you_mean(name, recorded)}"
            )


def pairs_seen(steps: np.ndarray, batch_size: int, *, start: int = 0, before: int | None = None) -> np.ndarray:
    """Return the number of pairs trained on after some numbers of steps, [n] -> [n].

    Args:
        steps: Numbers of steps.
        batch_size: Pairs per step.
        start: Step at which the run branched from its parent.
        before: Batch size of the parent; None: the same.
    """
    earlier = np.minimum(steps, start) * (batch_size if before is None else before)
    return earlier + np.maximum(steps - start, 0) * batch_size


def by(frame: pd.DataFrame, axis: str, places: pd.Series | None = None) -> pd.DataFrame:
    """Re-index a frame from steps to another axis. Rows keep their order in time; the column `step` holds their steps.

    Args:
        frame: Index `step`, ascending.
        axis: Name of an axis in AXES.
        places: Positions on the axis for some steps; needed for every axis but "step". In between they are interpolated, outside
            they are constant. For "kl", which is known only at evaluations, the frame is interpolated to the evaluations instead,
            and those outside its steps are left out.

    Raises:
        ValueError: The axis is unknown.
    """
    if axis not in AXES:
        raise ValueError(f"There is no axis {axis!r}; choose one of {', '.join(AXES)}.")
    if axis == "step":
        return frame.assign(step=frame.index)
    known = pd.Series(dtype=np.float64) if places is None else places.dropna()
    if frame.empty or known.empty:
        return frame.iloc[:0].assign(step=pd.Series(dtype=np.int64)).rename_axis(axis)
    if axis != "kl":
        positions = np.interp(frame.index.to_numpy(np.float64), known.index.to_numpy(np.float64), known.to_numpy())
        return frame.assign(step=frame.index).set_axis(pd.Index(positions, name=axis))
    distances = known[(known.index >= frame.index[0]) & (known.index <= frame.index[-1])]
    at = interpolated(frame, distances.index.to_numpy())
    return at.assign(step=at.index).set_axis(pd.Index(distances.to_numpy(), name=axis))


def interpolated(frame: pd.DataFrame, steps: np.ndarray) -> pd.DataFrame:
    """Interpolate the columns of a frame (index: step) linearly to other steps; NaN outside a column's range."""
    columns = {}
    for name in frame.columns:
        known = frame[name].dropna()
        if known.empty:
            columns[name] = np.full(len(steps), np.nan)
            continue
        columns[name] = np.interp(steps, known.index.to_numpy(np.float64), known.to_numpy(np.float64), left=np.nan, right=np.nan)
    return pd.DataFrame(columns, index=pd.Index(steps, name="step"))
