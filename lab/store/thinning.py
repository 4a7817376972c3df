"""Thin out old pair terms, so that the store of a long run stays small.

The policy is OURS:

- The latest `keep_pair_rows` rows (pairs times steps) are kept whole. With batches of B pairs that is W = keep_pair_rows / B steps.
- Older steps, of an age between W * 2**(j-1) and W * 2**j, are thinned to one in 2**j (the first of every 2**j), so that the number
  of stored steps grows with the logarithm of the run's length: W * (1 + log2(steps / W) / 2).
- At any age these are kept: the first and the latest row of a pair; of every 16 * 2**j steps and each term, the rows with the
  lowest and the highest value; and the whole steps next to (one before, one after) warnings, changes, edits, resuming and branching
  (the latest 1,000 of these events).
- Scalars, layers, events and held-out pairs are never thinned.

Thinning runs in pieces of a few milliseconds, each in its own transaction: a crash leaves a consistent store, and the next writer
continues. If a run goes back to a checkpoint older than W steps, the steps before it stay thinned.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

import numpy as np

from .pair_rows import ROWS, SINGLES, Block, blocks, latest_at, single

KINDS = ("warning", "refused", "change", "edit", "resumed", "branched", "diagnosis")
"""Kinds of events next to which whole steps are kept."""

EVENTS = 1000
"""At most this many of the latest such events count."""

STEPS = 16
"""Steps that remain in a window, which spans STEPS * 2**tier steps."""

SNAPSHOT_ROWS = 20_000
"""Rows between two snapshots; the number of pairs if that is larger."""

FETCHED = 5000
"""Table rows between two snapshots over thinned steps, at most; reading that many takes a few milliseconds."""


def tier(age: int, whole: int) -> int:
    """Return the tier of an age in steps: one in 2**tier steps remains. The latest `whole` steps are kept whole."""
    return 0 if age <= whole else int(np.ceil(np.log2(age / whole)))


def first_of_each(steps: np.ndarray, width: int) -> np.ndarray:
    """Return which of some ascending steps are the first in their window of `width` steps: bool [n]."""
    return np.diff(steps // width, prepend=-1) > 0


def extremes(terms: np.ndarray) -> np.ndarray:
    """Return the indices of the rows with the lowest or highest value of a column, ignoring NaN: [n, T] -> [at most 2T]."""
    if not terms.size:
        return np.empty(0, np.int64)
    low = np.where(np.isnan(terms), np.inf, terms).argmin(0)
    high = np.where(np.isnan(terms), -np.inf, terms).argmax(0)
    known = ~np.isnan(terms).all(0)
    return np.unique(np.concatenate([low[known], high[known]]))


class Thinner:
    """Applies the thinning policy to a store, one piece at a time. It caches counts: call `reset` after a rollback.

    Args:
        connection: Connection of the writer.
        keep_pair_rows: Rows that are kept whole; 0 keeps everything.
    """

    def __init__(self, connection: sqlite3.Connection, keep_pair_rows: int) -> None:
        self._c, self._keep = connection, keep_pair_rows
        self.reset()

    def reset(self) -> None:
        """Read the cached counts from the store again."""
        newest = self._c.execute("SELECT step, count FROM batches ORDER BY step DESC LIMIT 1").fetchone()
        self._latest: int = newest[0] if newest else 0
        self._batch: int = newest[1] if newest else 0
        self._upto: dict[int, int] = dict(self._c.execute("SELECT tier, upto FROM thinned").fetchall())
        (self._snapped,) = self._c.execute("SELECT max(step) FROM snapshots").fetchone()
        after = -1 if self._snapped is None else self._snapped
        (self._since,) = self._c.execute("SELECT coalesce(sum(count), 0) FROM batches WHERE step > ?", (after,)).fetchone()
        (self._pairs,) = self._c.execute("SELECT coalesce(max(id), 0) FROM pairs").fetchone()

    def note(self, step: int, count: int) -> None:
        """Record that a batch of `count` pairs was written for a step."""
        self._latest, self._batch = max(self._latest, step), max(self._batch, count)
        self._since += count

    @property
    def whole(self) -> int:
        """Number of steps that are kept whole."""
        return max(self._keep // max(self._batch, 1), 2 * STEPS)

    def due(self) -> bool:
        """Return whether there is something to do."""
        return self._since >= max(SNAPSHOT_ROWS, self._pairs) or self._next() is not None

    def piece(self) -> bool:
        """Write one snapshot or thin one window, in the transaction of the caller; return False if there was nothing to do."""
        if self._since >= max(SNAPSHOT_ROWS, self._pairs):
            self._snap()
            return True
        window = self._next()
        if window is None:
            return False
        self._thin(*window)
        return True

    def _next(self) -> tuple[int, int] | None:
        """Return the tier and the first step of the next window to thin, or None."""
        if not self._keep or not self._batch:
            return None
        number, done = 1, None
        while self.whole << (number - 1) <= self._latest:
            width = STEPS << number
            start = self._upto.get(number)
            if start is None:
                (oldest,) = self._c.execute("SELECT min(step) FROM batches").fetchone()
                start = self._upto[number] = (oldest or 0) // width * width
            old_enough = start + width - 1 <= self._latest - (self.whole << (number - 1))
            if old_enough and (done is None or start + width <= done):  # finer windows first
                return number, start
            number, done = number + 1, start
        return None

    def _thin(self, number: int, start: int) -> None:
        width = STEPS << number
        c, end = self._c, start + width - 1
        span = "WHERE step BETWEEN ? AND ?"
        rows = c.execute(f"SELECT {ROWS} FROM batches {span} ORDER BY step", (start, end)).fetchall()
        singles = c.execute(f"SELECT {SINGLES} FROM kept {span} AND NOT first ORDER BY step", (start, end)).fetchall()
        steps = np.array([row[0] for row in rows], np.int64)
        keep = first_of_each(steps, 1 << number) | np.isin(steps, list(self._beside_events(start, end)))
        whole = set(steps[keep].tolist())
        chosen: set[tuple[int, int]] = set()
        for block in blocks([*rows, *(single(row) for row in singles)]):
            chosen |= self._worth_keeping(block, whole)
        for block in blocks([row for row in rows if row[0] not in whole]):
            self._drop(block, chosen)
        c.executemany("DELETE FROM batches WHERE step = ?", [(step,) for step in steps[~keep].tolist()])
        gone = [(pair, step) for pair, step, *_ in singles if (pair, step) not in chosen]
        c.executemany("DELETE FROM kept WHERE pair = ? AND step = ?", gone)
        self._upto[number] = start + width
        c.execute("INSERT OR REPLACE INTO thinned VALUES (?, ?)", (number, start + width))

    def _worth_keeping(self, block: Block, whole: set[int]) -> set[tuple[int, int]]:
        """Return (pair, step) of the rows that are kept although their step is deleted: extremes, and a pair's latest row."""
        chosen = {(int(block.pairs[i]), int(block.steps[i])) for i in extremes(block.terms).tolist()}
        for pair, step in zip(block.pairs.tolist(), block.steps.tolist()):
            if step not in whole and (pair, step) not in chosen and not self._has_row(pair, step, "step > ?"):
                chosen.add((pair, step))
        return {(pair, step) for pair, step in chosen if step not in whole}

    def _drop(self, block: Block, chosen: set[tuple[int, int]]) -> None:
        """Move the chosen rows and the pairs' first rows out of their batches, which are about to be deleted."""
        moved = []
        for i, key in enumerate(zip(block.pairs.tolist(), block.steps.tolist())):
            first = not self._has_row(*key, "step < ?")
            if first or key in chosen:
                moved.append((*key, int(first), int(block.versions[i]), block.columns, block.terms[i].tobytes()))
        self._c.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)", moved)
        keys = list(zip(block.pairs.tolist(), block.steps.tolist()))
        self._c.executemany("DELETE FROM seen WHERE pair = ? AND held = 0 AND step = ?", keys)

    def _has_row(self, pair: int, step: int, where: str) -> bool:
        """Return whether the pair has a row in another step that fulfils a condition ("step > ?", "step < ?")."""
        return any(
            self._c.execute(f"SELECT 1 FROM {table} AND {where} LIMIT 1", (pair, step)).fetchone()
            for table in ("seen WHERE pair = ? AND held = 0", "kept WHERE pair = ?")
        )

    def _beside_events(self, start: int, end: int) -> Iterable[int]:
        marks = ",".join("?" * len(KINDS))
        events = self._c.execute(
            f"SELECT step FROM events WHERE kind IN ({marks}) AND step BETWEEN ? AND ? AND number >= coalesce("
            f"(SELECT number FROM events WHERE kind IN ({marks}) ORDER BY number DESC LIMIT 1 OFFSET {EVENTS - 1}), 0)",
            (*KINDS, start - 1, end + 1, *KINDS),
        )
        return {step + beside for (step,) in events for beside in (-1, 0, 1)}

    def _snap(self) -> None:
        """Write a snapshot of every pair's latest row, and delete old snapshots with few rows between them."""
        layouts = layouts_of(self._c)
        state = latest_at(lambda sql, values: self._c.execute(sql, values).fetchall(), self._latest, layouts)
        self._c.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", state.row(self._latest))
        self._snapped, self._since = self._latest, 0
        (self._pairs,) = self._c.execute("SELECT coalesce(max(id), 0) FROM pairs").fetchone()
        if not self._keep:
            return
        steps = [step for (step,) in self._c.execute("SELECT step FROM snapshots ORDER BY step")]
        i = 1
        while i < len(steps) - 1:
            batches = (steps[i + 1] - steps[i - 1]) >> tier(self._latest - steps[i + 1], self.whole)
            between = "SELECT count(*) FROM kept WHERE step > ? AND step <= ?"
            (singles,) = self._c.execute(between, (steps[i - 1], steps[i + 1])).fetchone()
            rows = max(SNAPSHOT_ROWS, self._pairs)
            if batches * self._batch <= rows and batches + singles <= max(rows // self._batch, FETCHED):
                self._c.execute("DELETE FROM snapshots WHERE step = ?", (steps.pop(i),))
            else:
                i += 1

    def forget_after(self, step: int) -> None:
        """Mark windows that reach beyond a step for thinning again; the caller deletes the rows."""
        for number, upto in self._upto.items():
            width = STEPS << number
            begin = (step + 1) // width * width
            if upto > begin:
                self._c.execute("INSERT OR REPLACE INTO thinned VALUES (?, ?)", (number, begin))


def layouts_of(connection: sqlite3.Connection) -> dict[int, list[str]]:
    """Return the names of the terms by layout."""
    return {number: json.loads(names) for number, names in connection.execute("SELECT id, names FROM columns")}
