"""Read series of numbers: every value, or as many summaries of them as a figure needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lab.store.series import BASE, FACTOR, VALUES, by_series, unpacked
from lab.store.summaries import SUMMARY, of_values, points_of, thinned, trailing, trailing_values

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]

END = 2**62
"""Later than any step."""


def end_of(last: int | None) -> int:
    """Return the last step of a range as a number; None means no limit."""
    return END if last is None else last


_PACKS = (
    "SELECT first, last, count, steps, data FROM packs WHERE series = ? AND level = ? AND first <= ? AND first >= "
    "coalesce((SELECT max(first) FROM packs WHERE series = ? AND level = ? AND first <= ?), 0) ORDER BY first"
)
_PACK_NUMBER = "SELECT number FROM packs WHERE series = ? AND level = 0 AND first <= ? ORDER BY first DESC LIMIT 1"


class SeriesRange:
    """The values of all series of a kind between two steps, both included. Use it within one transaction.

    Summaries are cached, so that several reads of one series cost one query.

    Args:
        query: Runs a SELECT statement and returns all rows.
        kind: `SCALAR` or `LAYER`.
        first: First step.
        last: Last step.
    """

    def __init__(self, query: Query, kind: str, first: int, last: int) -> None:
        self._query, self._first, self._last = query, first, last
        rows = query(
            "SELECT step, series, numbers FROM recent WHERE kind = ? AND step BETWEEN ? AND ? ORDER BY number", (kind, first, last)
        )
        self._recent = by_series([(step, ids, numbers) for step, ids, numbers in rows])
        self._cache: dict[tuple[int, int], np.ndarray] = {}

    def recent(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Return steps and values that are not packed yet, by series."""
        return self._recent

    def values(self, series: int) -> tuple[np.ndarray, np.ndarray]:
        """Return every value of a series: steps int64 [n], values float64 [n]."""
        parts = [*self._packed(series, self._first, self._last), *([self._recent[series]] if series in self._recent else [])]
        if not parts:
            return np.empty(0, np.int64), np.empty(0)
        return np.concatenate([steps for steps, _ in parts]), np.concatenate([values for _, values in parts])

    def points(self, series: int, most: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Return steps and values of at most `most` points (see `ScalarReader.read`), and how many values they represent."""
        level = self._level(series, most)
        if level:
            parts = self._summaries(series, level)
            count = int(parts["count"].sum())
            if count > most:
                return *points_of(parts, most), count
        steps, values = self.values(series)
        return *thinned(steps, values, most), len(steps)

    def means(self, series: int, width: int, most: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Return steps and trailing means over `width` values at no more than `most` steps, and how many values they represent."""
        level = self._level(series, 2 * most)
        if level:
            parts = self._summaries(series, level)
            count = int(parts["count"].sum())
            if count > most:
                return *trailing(parts, width, most), count
        steps, values = self.values(series)
        return *trailing_values(steps, values, width, most), len(steps)

    def summaries(self, series: int, points: int) -> np.ndarray:
        """Return consecutive summaries that cover every value and give about `points` points or more: SUMMARY [n]."""
        level = self._level(series, points)
        parts = self._summaries(series, level) if level else None
        if parts is None or parts["count"].sum() <= points:  # few enough to return each value
            return of_values(*self.values(series))
        return parts

    def _summaries(self, series: int, level: int) -> np.ndarray:
        if (series, level) not in self._cache:
            parts = [*self._summed(series, level, self._first, self._last)]
            if series in self._recent:
                parts.append(of_values(*self._recent[series]))
            self._cache[series, level] = np.concatenate(parts) if parts else np.empty(0, SUMMARY)
        return self._cache[series, level]

    def _level(self, series: int, points: int) -> int:
        """Return the highest level that still has a summary for every two points."""
        end = self._query(_PACK_NUMBER, (series, self._last))
        if not end:
            return 0
        start = self._query(_PACK_NUMBER, (series, self._first))
        values = (end[0][0] - (start[0][0] if start else 0) + 1) * VALUES
        level, each = 0, BASE
        while values // each >= max(points // 2, 1):
            level, each = level + 1, each * FACTOR
        return level

    def _packed(self, series: int, first: int, last: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        for row in self._query(_PACKS, (series, 0, last, series, 0, first)):
            steps, values = unpacked(*row)
            if row[0] < first or row[1] > last:
                start, end = np.searchsorted(steps, [first, last + 1])
                steps, values = steps[start:end], values[start:end]
            yield steps, values

    def _summed(self, series: int, level: int, first: int, last: int) -> Iterable[np.ndarray]:
        """Yield summaries of a level where they lie within the range, and finer ones at its edges."""
        if first > last:
            return
        if level == 0:
            for steps, values in self._packed(series, first, last):
                yield of_values(steps, values)
            return
        rows = self._query(_PACKS, (series, level, last, series, level, first))
        packed = np.frombuffer(b"".join(row[4] for row in rows), SUMMARY)
        start = int(np.searchsorted(packed["first_step"], first))
        end = int(np.searchsorted(packed["last_step"], last, "right"))
        if start >= end:
            yield from self._summed(series, level - 1, first, last)
            return
        inside = packed[start:end]
        if start:  # else the series begins here, or the range does
            yield from self._summed(series, level - 1, first, int(inside["first_step"][0]) - 1)
        yield inside
        yield from self._summed(series, level - 1, int(inside["last_step"][-1]) + 1, last)
