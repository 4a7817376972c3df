"""Write series of numbers so that reading a screen full of them costs the same for any length of run.

Values are stored in packs of 1,024. Above them are levels of summaries: level 1 has one per 64 values, level n one per
64 * 8**(n-1). Each is written once, when it is complete; until then the newest values are in `recent`, one row per call. All
statements run in the transaction of the caller, so that a crash leaves everything or nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from .summaries import SUMMARY, merged, of_values

VALUES = 1024
"""Values per pack."""

BASE, FACTOR = 64, 8
"""Values per summary of level 1, and summaries per summary of the next level."""

SUMMARIES = 128
"""Summaries per pack."""

TAIL = 128
"""Rows that remain in `recent` after packing; packing begins at twice as many."""

PIECE = 4096
"""Rows packed in one transaction, at most."""

SCALAR, LAYER = "scalar", "layer"
"""Kinds of series: of the run, and of one layer (named "<column> <layer>")."""


class SeriesWriter:
    """Adds, packs and deletes values of series. It caches counts: call `reset` after a rollback."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._c = connection
        self.reset()

    def reset(self) -> None:
        """Read the cached counts from the store again."""
        self._rows = dict.fromkeys((SCALAR, LAYER), 0)
        self._rows.update(self._c.execute("SELECT kind, count(*) FROM recent GROUP BY kind").fetchall())
        self._packed = {
            kind: self._c.execute("SELECT max(last) FROM packs JOIN series ON id = series WHERE kind = ?", (kind,)).fetchone()[0]
            for kind in self._rows
        }

    def add(self, kind: str, step: int, series: Sequence[int], values: Sequence[float]) -> None:
        """Add one value to each of some series (by id), replacing an earlier value of the same step."""
        packed = self._packed[kind]
        if packed is not None and step <= packed:
            series, values = self._add_late(step, series, values)
        if len(series):
            ids, numbers = np.asarray(series, np.int32).tobytes(), np.asarray(values, np.float64).tobytes()
            self._c.execute("INSERT INTO recent (kind, step, series, numbers) VALUES (?, ?, ?, ?)", (kind, step, ids, numbers))
            self._rows[kind] += 1

    def _add_late(self, step: int, series: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
        """Insert values whose step is already packed; return series and values of the others."""
        in_time: tuple[list[int], list[float]] = ([], [])
        for id_, value in zip(series, values):
            (last,) = self._c.execute("SELECT max(last) FROM packs WHERE series = ? AND level = 0", (id_,)).fetchone()
            if last is None or step > last:
                in_time[0].append(id_)
                in_time[1].append(value)
                continue
            later = [unpacked(*row) for row in self._c.execute(_PACKS_FROM, (id_, step))]
            steps, numbers = (np.concatenate(part) for part in zip(*later))
            self.cut(id_, step - 1)
            steps, numbers = latest(np.append(steps[steps >= step], step), np.append(numbers[steps >= step], value))
            self.append(id_, steps, numbers)
        return in_time

    def due(self) -> bool:
        """Return whether there is enough to pack."""
        return any(rows >= 2 * TAIL for rows in self._rows.values())

    def pack(self) -> bool:
        """Move some of the oldest recent values into packs; return False if there was nothing to do."""
        for kind, rows in self._rows.items():
            if rows >= 2 * TAIL:
                (cut,) = self._c.execute(
                    "SELECT step FROM recent WHERE kind = ? ORDER BY step DESC LIMIT 1 OFFSET ?", (kind, TAIL)
                ).fetchone() or (0,)
                piece = self._c.execute(
                    "SELECT step FROM recent WHERE kind = ? ORDER BY step LIMIT 1 OFFSET ?", (kind, PIECE)
                ).fetchone()
                if self._pack_before(kind, min(cut, piece[0]) if piece else cut):
                    return True
                self._rows[kind] = TAIL  # these rows are all of one step and cannot be split; try again later
        return False

    def _pack_before(self, kind: str, cut: int) -> bool:
        rows = self._c.execute(
            "SELECT step, series, numbers FROM recent WHERE kind = ? AND step < ? ORDER BY number", (kind, cut)
        ).fetchall()
        if not rows:
            return False
        for id_, (steps, values) in by_series(rows).items():
            self.append(id_, steps, values)
        self._c.execute("DELETE FROM recent WHERE kind = ? AND step < ?", (kind, cut))
        self._rows[kind] -= len(rows)
        self._packed[kind] = max(self._packed[kind] or 0, max(row[0] for row in rows))
        return True

    def append(self, series: int, steps: np.ndarray, values: np.ndarray) -> None:
        """Append values with ascending steps, later than all packed ones, to a series: int64 [n], float64 [n]."""
        number, have = self._last_pack(series, 0)
        if have is not None and have[2] < VALUES:
            old_steps, old_values = unpacked(*have)
            steps, values = np.concatenate([old_steps, steps]), np.concatenate([old_values, values])
        elif have is not None:
            number += 1
        for start in range(0, len(steps), VALUES):
            part, numbers = steps[start : start + VALUES], values[start : start + VALUES]
            self._put(series, 0, number, part, numbers)
            if len(part) == VALUES:
                self._summarise(series, 1, merged(of_values(part, numbers).reshape(-1, BASE)))
            number += 1

    def _summarise(self, series: int, level: int, new: np.ndarray) -> None:
        """Add summaries to a level, and completed ones to the levels above."""
        number, have = self._last_pack(series, level)
        old = np.frombuffer(have[4], SUMMARY) if have is not None else np.empty(0, SUMMARY)
        every = np.concatenate([old, new])
        for start in range(0, len(every), SUMMARIES):
            if start + SUMMARIES > len(old):
                self._put_summaries(series, level, number + start // SUMMARIES, every[start : start + SUMMARIES])
        begin, end = len(old) // FACTOR * FACTOR, len(every) // FACTOR * FACTOR
        if end > begin:
            self._summarise(series, level + 1, merged(every[begin:end].reshape(-1, FACTOR)))

    def cut(self, series: int, step: int) -> None:
        """Delete the packed values of a series after a step, and every summary that includes one of them."""
        number, have = self._pack_at(series, step)
        self._c.execute("DELETE FROM packs WHERE series = ? AND level = 0 AND number >= ?", (series, number))
        if have is not None:
            steps, values = unpacked(*have)
            left = steps <= step
            self._put(series, 0, number, steps[left], values[left])
            number += int(left.all() and len(steps) == VALUES)
        for level in count(1):
            summaries = number * VALUES // (BASE * FACTOR ** (level - 1))
            whole, rest = divmod(summaries, SUMMARIES)
            row = self._c.execute(
                "SELECT data FROM packs WHERE series = ? AND level = ? AND number = ?", (series, level, whole)
            ).fetchone()
            beyond = "DELETE FROM packs WHERE series = ? AND level = ? AND number >= ?"
            gone = self._c.execute(beyond, (series, level, whole)).rowcount
            if row is not None and rest:
                self._put_summaries(series, level, whole, np.frombuffer(row[0], SUMMARY)[:rest])
            if not gone and not summaries:
                return

    def forget_after(self, step: int) -> None:
        """Delete all packed values after a step; the caller deletes those in `recent`."""
        for (series,) in self._c.execute("SELECT DISTINCT series FROM packs WHERE level = 0 AND last > ?", (step,)).fetchall():
            self.cut(series, step)

    def _last_pack(self, series: int, level: int) -> tuple[int, tuple[Any, ...] | None]:
        row = self._c.execute(
            "SELECT number, first, last, count, steps, data FROM packs WHERE series = ? AND level = ? ORDER BY number DESC LIMIT 1",
            (series, level),
        ).fetchone()
        return (0, None) if row is None else (row[0], row[1:])

    def _pack_at(self, series: int, step: int) -> tuple[int, tuple[Any, ...] | None]:
        row = self._c.execute(
            "SELECT number, first, last, count, steps, data FROM packs WHERE series = ? AND level = 0 AND first <= ? "
            "ORDER BY first DESC LIMIT 1",
            (series, step),
        ).fetchone()
        return (0, None) if row is None else (row[0], row[1:])

    def _put(self, series: int, level: int, number: int, steps: np.ndarray, values: np.ndarray) -> None:
        first, last = int(steps[0]), int(steps[-1])
        even = last - first == len(steps) - 1
        row = (series, level, number, first, last, len(steps), None if even else steps.tobytes(), values.tobytes())
        self._c.execute("INSERT OR REPLACE INTO packs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _put_summaries(self, series: int, level: int, number: int, rows: np.ndarray) -> None:
        first, last = int(rows["first_step"][0]), int(rows["last_step"][-1])
        self._c.execute(
            "INSERT OR REPLACE INTO packs VALUES (?, ?, ?, ?, ?, ?, NULL, ?)",
            (series, level, number, first, last, len(rows), rows.tobytes()),
        )


_PACKS_FROM = "SELECT first, last, count, steps, data FROM packs WHERE series = ? AND level = 0 AND last >= ? ORDER BY number"


def unpacked(first: int, last: int, length: int, steps: bytes | None, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps int64 [length] and values float64 [length] of a row of level 0."""
    at = np.arange(first, last + 1, dtype=np.int64) if steps is None else np.frombuffer(steps, np.int64)
    return at, np.frombuffer(data, np.float64)


def latest(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort values by step and keep the last one recorded for each step."""
    if len(steps) < 2 or (np.diff(steps) > 0).all():
        return steps, values
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    keep = np.append(np.diff(steps) > 0, True)
    return steps[keep], values[keep]


def by_series(rows: Sequence[tuple[int, bytes, bytes]]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Convert rows of `recent` (step, series, numbers), in the order of recording, to steps and values per series."""
    if not rows:
        return {}
    series = np.frombuffer(b"".join(row[1] for row in rows), np.int32)
    values = np.frombuffer(b"".join(row[2] for row in rows), np.float64)
    steps = np.repeat(np.array([row[0] for row in rows], np.int64), [len(row[1]) // 4 for row in rows])
    order = np.argsort(series, kind="stable")
    series, values, steps = series[order], values[order], steps[order]
    edges = np.flatnonzero(np.diff(series)) + 1
    starts = [0, *edges.tolist()]
    ends = [*edges.tolist(), len(series)]
    return {int(series[start]): latest(steps[start:end], values[start:end]) for start, end in zip(starts, ends)}
