"""Read the scalars of a run: one number per name and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.store.series import SCALAR

from .connection import StoreConnection
from .series import END, end_of

if TYPE_CHECKING:
    import pandas as pd

SCREEN_POINTS = 1000
"""Points per curve that a screen can show; more would not be visible."""


class ScalarReader:
    """Scalars by step. The cost of a read depends on what is returned, not on the length of the run."""

    def __init__(self, connection: StoreConnection) -> None:
        self._store = connection

    def names(self) -> list[str]:
        """Return the names of the recorded scalars, sorted."""
        return sorted(self._store.series(SCALAR))

    def span(self) -> tuple[int, int] | None:
        """Return the first and the last step with a scalar, or None if there is none."""
        return self._store.series_span(SCALAR)

    def read(
        self, names: Sequence[str] | None = None, *, first: int = 0, last: int | None = None, points: int | None = None
    ) -> pd.DataFrame:
        """Return scalars by step.

        Args:
            names: Scalars to read; None reads all. A name that was never recorded becomes an empty column.
            first: First step.
            last: Last step, included; None reads to the end.
            points: At most this many values of each series: the lowest and the highest value of every bucket of steps, with
                their own steps, so that spikes remain visible, and the values at both ends. None reads every value.

        Returns:
            A frame with the index `step` and one column per name, NaN where a name has no value at a step.
            `frame.attrs["stands_for"]` holds, by name, how many recorded values the column represents.
        """
        with self._store.transaction():
            known = self._store.series(SCALAR)
            wanted = list(names) if names is not None else sorted(known)
            values_between = self._store.series_range(SCALAR, first, end_of(last))
            columns, counts = {}, {}
            for name in wanted:
                steps, values, count = np.empty(0, np.int64), np.empty(0), 0
                if name in known and points is not None:
                    steps, values, count = values_between.points(known[name], points)
                elif name in known:
                    steps, values = values_between.values(known[name])
                    count = len(steps)
                columns[name], counts[name] = (steps, values), count
        return _by_step(columns, counts)

    def means(
        self, names: Sequence[str], *, width: int = 1, first: int = 0, last: int | None = None, points: int = SCREEN_POINTS
    ) -> pd.DataFrame:
        """Return trailing means of each series, for smoothed curves.

        `read(points=...)` returns extremes, whose mean would be meaningless. The means are exact where every value can be read;
        otherwise the first of them may include values from up to one point of the curve earlier or later.

        Args:
            names: Scalars to read.
            width: Number of values per mean. NaN and infinities are left out.
            first: First step.
            last: Last step, included; None reads to the end.
            points: At most this many steps.

        Returns:
            A frame like that of `read`.
        """
        with self._store.transaction():
            known = self._store.series(SCALAR)
            values_between = self._store.series_range(SCALAR, first, end_of(last))
            columns, counts = {}, {}
            for name in names:
                steps, means, count = np.empty(0, np.int64), np.empty(0), 0
                if name in known:
                    steps, means, count = values_between.means(known[name], width, points)
                columns[name], counts[name] = (steps, means), count
        return _by_step(columns, counts)

    def sparklines(self, names: Sequence[str], points: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return a few points of recorded series for tiny pictures of curves: steps and trailing means, by name.

        A mean is taken over as many values as lie between two points. Nothing is returned for a name that was never recorded.
        """
        with self._store.transaction():
            known = self._store.series(SCALAR)
            values_between = self._store.series_range(SCALAR, 0, END)
            lines = {}
            for name in (name for name in names if name in known):
                steps, values, count = values_between.means(known[name], 1, points)
                if count > points:
                    steps, values, _ = values_between.means(known[name], -(-count // points), points)
                lines[name] = (steps, values)
        return lines

    def latest(self) -> dict[str, float]:
        """Return the last recorded value of every scalar."""
        with self._store.transaction():
            known = self._store.series(SCALAR)
            recent = self._store.series_range(SCALAR, 0, END).recent()
            values = {}
            for name, series in known.items():
                if series in recent:
                    values[name] = float(recent[series][1][-1])
                else:
                    packs = self._store.query(
                        "SELECT data FROM packs WHERE series = ? AND level = 0 ORDER BY number DESC LIMIT 1", (series,)
                    )
                    if packs:
                        values[name] = float(np.frombuffer(packs[0][0], np.float64)[-1])
        return dict(sorted(values.items()))


def _by_step(columns: dict[str, tuple[np.ndarray, np.ndarray]], counts: dict[str, int]) -> pd.DataFrame:
    """Put series (steps ascending, values) side by side by step."""
    import pandas as pd

    different = [steps for steps, _ in columns.values() if len(steps)]
    steps = different[0] if different else np.empty(0, np.int64)
    if not all(np.array_equal(steps, other) for other in different[1:]):
        steps = np.sort(np.concatenate(different))
        steps = steps[np.append(True, steps[1:] > steps[:-1])]
    table = np.full((len(columns), len(steps)), np.nan)
    for row, (at, values) in zip(table, columns.values()):
        row[slice(None) if len(at) == len(steps) else np.searchsorted(steps, at)] = values
    frame = pd.DataFrame(table.T, index=pd.Index(steps, name="step"), columns=list(columns), copy=False)
    frame.attrs["stands_for"] = counts
    return frame
