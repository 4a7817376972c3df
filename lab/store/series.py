"""Writing series of numbers so that a screen full of them costs the same however long the run.

A series' values lie in packs of 1,024, and above them summaries: level 1 has one for every 64 values, level n for every
64 * 8**(n-1). All are written once, when what they stand for is complete; the newest values lie in `recent`, one row a call, until
there are enough of them. Whatever is done here belongs to the transaction of the caller, so that a crash leaves all or nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from .summaries import SUMMARY, merged, of_values

VALUES = 1024
"""Values of a pack."""

BASE, FACTOR = 64, 8
"""Values that a summary of level 1 stands for, and summaries that one of the next level stands for."""

SUMMARIES = 128
"""Summaries of a pack."""

TAIL = 128
"""Rows that stay in `recent` when the others are packed; packing begins at twice as many."""

PIECE = 4096
"""Rows that are packed in one transaction, at most."""

SCALAR, LAYER = "scalar", "layer"
"""Kinds of series: of the run, and of a layer ("<column> <layer>")."""


class SeriesWriter:
    """Adds, packs and forgets values. Its memory is a shortcut only: `reset` after a transaction that was rolled back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._c = connection
        self.reset()

    def reset(self) -> None:
        """Look into the store again."""
        self._rows = dict.fromkeys((SCALAR, LAYER), 0)
        self._rows.update(self._c.execute("SELECT kind, count(*) FROM recent GROUP BY kind").fetchall())
        self._packed = {
            kind: self._c.execute("SELECT max(last) FROM packs JOIN series ON id = series WHERE kind = ?", (kind,)).fetchone()[0]
            for kind in self._rows
        }

    def add(self, kind: str, step: int, series: Sequence[int], values: Sequence[float]) -> None:
        """One value for each of some series (by id). A value that was there for the step is replaced."""
        packed = self._packed[kind]
        if packed is not None and step <= packed:
            series, values = self._add_late(step, series, values)
        if len(series):
            ids, numbers = np.asarray(series, np.int32).tobytes(), np.asarray(values, np.float64).tobytes()
            self._c.execute("INSERT INTO recent (kind, step, series, numbers) VALUES (?, ?, ?, ?)", (kind, step, ids, numbers))
            self._rows[kind] += 1

    def _add_late(self, step: int, series: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
        """Put values into packs that have gone beyond their step; returns those that are not late."""
        in_time: tuple[list[int], list[float]] = ([], [])
        for one, value in zip(series, values):
            (last,) = self._c.execute("SELECT max(last) FROM packs WHERE series = ? AND level = 0", (one,)).fetchone()
            if last is None or step > last:
                in_time[0].append(one)
                in_time[1].append(value)
                continue
            later = [unpacked(*row) for row in self._c.execute(_PACKS_FROM, (one, step))]
            steps, numbers = (np.concatenate(part) for part in zip(*later))
            self.cut(one, step - 1)
            steps, numbers = latest(np.append(steps[steps >= step], step), np.append(numbers[steps >= step], value))
            self.append(one, steps, numbers)
        return in_time

    def due(self) -> bool:
        """True where there is enough to pack."""
        return any(rows >= 2 * TAIL for rows in self._rows.values())

    def pack(self) -> bool:
        """Move one piece of the oldest recent values into packs; False if there was nothing to do."""
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
                self._rows[kind] = TAIL  # so many rows of one step cannot be parted; look again later
        return False

    def _pack_before(self, kind: str, cut: int) -> bool:
        rows = self._c.execute(
            "SELECT step, series, numbers FROM recent WHERE kind = ? AND step < ? ORDER BY number", (kind, cut)
        ).fetchall()
        if not rows:
            return False
        for one, (steps, values) in by_series(rows).items():
            self.append(one, steps, values)
        self._c.execute("DELETE FROM recent WHERE kind = ? AND step < ?", (kind, cut))
        self._rows[kind] -= len(rows)
        self._packed[kind] = max(self._packed[kind] or 0, max(row[0] for row in rows))
        return True

    def append(self, series: int, steps: np.ndarray, values: np.ndarray) -> None:
        """Values of later steps than all that are packed, in order: int64 [n], float64 [n]."""
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
        """Add summaries to a level, and to those above it what is complete."""
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
        """Drop a series' packed values of later steps, and every summary that stands for one of them."""
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
        """Drop every packed value of a later step; `recent` is the caller's."""
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
    """Steps int64 [length] and values float64 [length] of a row of level 0."""
    at = np.arange(first, last + 1, dtype=np.int64) if steps is None else np.frombuffer(steps, np.int64)
    return at, np.frombuffer(data, np.float64)


def latest(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In order of their steps; of several values of one step the one that was said last."""
    if len(steps) < 2 or (np.diff(steps) > 0).all():
        return steps, values
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    keep = np.append(np.diff(steps) > 0, True)
    return steps[keep], values[keep]


def by_series(rows: Sequence[tuple[int, bytes, bytes]]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Rows of `recent` (step, series, numbers), in the order they were said, as steps and values for each series."""
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
