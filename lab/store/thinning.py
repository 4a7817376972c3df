"""What is kept of old pair terms. THE POLICY (the lab's own; no paper says anything here):

- The latest `keep_pair_rows` rows (pairs times steps) are kept whole. With batches of B pairs these are W = keep_pair_rows / B
  steps.
- Beyond them, steps of an age between W * 2**(j-1) and W * 2**j are thinned to one in 2**j (the first of every 2**j), so that
  what is kept grows with the logarithm of the run's length: W * (1 + log2(steps / W) / 2) steps.
- Whatever its age, kept are: a pair's first and its latest row; of every 16 * 2**j steps, for each term, the row with the lowest
  and the row with the highest value; and whole steps beside (one before, one after) what people did and what went wrong:
  warnings, changes, edits, resuming, branching (of the latest 1,000 of these events).
- Scalars, layers, events and held-out looks are never thinned.

Thinning goes by pieces of some milliseconds, each whole in a transaction of its own: a crash at any moment leaves a store that is
right, and the next writer goes on. Where a run goes back to a checkpoint that is older than W steps, the steps before it stay as
thin as they were.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

import numpy as np

from .pair_rows import ROWS, SINGLES, Block, blocks, latest_at, single

KINDS = ("warning", "refused", "change", "edit", "resumed", "branched", "diagnosis")
"""Events whose neighbourhood is kept."""

EVENTS = 1000
"""So many of the latest of them."""

STEPS = 16
"""Steps that are left in a window: it spans STEPS * 2**tier steps."""

SNAPSHOT_ROWS = 20_000
"""Rows between two snapshots, or as many as there are pairs, if there are more."""

FETCHED = 5000
"""Rows of the tables that lie between two snapshots, at most, where their steps have been thinned: so many take a few ms."""


def tier(age: int, whole: int) -> int:
    """How thin steps of this age are: one in 2**tier is left. `whole`: the steps that are kept whole."""
    return 0 if age <= whole else int(np.ceil(np.log2(age / whole)))


def first_of_each(steps: np.ndarray, width: int) -> np.ndarray:
    """Which of some ascending steps are the first of their `width` steps: bool [n]."""
    return np.diff(steps // width, prepend=-1) > 0


def extremes(terms: np.ndarray) -> np.ndarray:
    """Indices of the rows that have the lowest or the highest value of a column; NaN is neither. [n, T] -> [<= 2T]"""
    if not terms.size:
        return np.empty(0, np.int64)
    low = np.where(np.isnan(terms), np.inf, terms).argmin(0)
    high = np.where(np.isnan(terms), -np.inf, terms).argmax(0)
    known = ~np.isnan(terms).all(0)
    return np.unique(np.concatenate([low[known], high[known]]))


class Thinner:
    """Keeps the pair terms of a store within the policy, a piece at a time. `reset` after a transaction that was rolled back.

    keep_pair_rows: 0 keeps everything.
    """

    def __init__(self, connection: sqlite3.Connection, keep_pair_rows: int) -> None:
        self._c, self._keep = connection, keep_pair_rows
        self.reset()

    def reset(self) -> None:
        """Look into the store again."""
        found = self._c.execute("SELECT step, count FROM batches ORDER BY step DESC LIMIT 1").fetchone()
        self._latest: int = found[0] if found else 0
        self._batch: int = found[1] if found else 0
        self._upto: dict[int, int] = dict(self._c.execute("SELECT tier, upto FROM thinned").fetchall())
        (self._snapped,) = self._c.execute("SELECT max(step) FROM snapshots").fetchone()
        after = -1 if self._snapped is None else self._snapped
        (self._since,) = self._c.execute("SELECT coalesce(sum(count), 0) FROM batches WHERE step > ?", (after,)).fetchone()
        (self._pairs,) = self._c.execute("SELECT coalesce(max(id), 0) FROM pairs").fetchone()

    def note(self, step: int, count: int) -> None:
        """A step's batch was written."""
        self._latest, self._batch = max(self._latest, step), max(self._batch, count)
        self._since += count

    @property
    def whole(self) -> int:
        """Steps that are kept whole."""
        return max(self._keep // max(self._batch, 1), 2 * STEPS)

    def due(self) -> bool:
        """True where there is something to do."""
        return self._since >= max(SNAPSHOT_ROWS, self._pairs) or self._next() is not None

    def piece(self) -> bool:
        """Do one thing, within the caller's transaction; False if there was nothing to do."""
        if self._since >= max(SNAPSHOT_ROWS, self._pairs):
            self._snap()
            return True
        found = self._next()
        if found is None:
            return False
        self._thin(*found)
        return True

    def _next(self) -> tuple[int, int] | None:
        """The tier and the first step of a window whose turn it is."""
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
        """Pairs and steps of the rows that stay although their step goes: extremes, a pair's latest row."""
        chosen = {(int(block.pairs[i]), int(block.steps[i])) for i in extremes(block.terms).tolist()}
        for pair, step in zip(block.pairs.tolist(), block.steps.tolist()):
            if step not in whole and (pair, step) not in chosen and not self._there(pair, step, "step > ?"):
                chosen.add((pair, step))
        return {(pair, step) for pair, step in chosen if step not in whole}

    def _drop(self, block: Block, chosen: set[tuple[int, int]]) -> None:
        """Move the rows worth keeping out of their batches, which are about to be deleted; pairs' first rows among them."""
        moved = []
        for i, key in enumerate(zip(block.pairs.tolist(), block.steps.tolist())):
            first = not self._there(*key, "step < ?")
            if first or key in chosen:
                moved.append((*key, int(first), int(block.versions[i]), block.columns, block.terms[i].tobytes()))
        self._c.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)", moved)
        keys = list(zip(block.pairs.tolist(), block.steps.tolist()))
        self._c.executemany("DELETE FROM seen WHERE pair = ? AND held = 0 AND step = ?", keys)

    def _there(self, pair: int, step: int, where: str) -> bool:
        """Whether the pair has another row in a step before, or after."""
        return any(
            self._c.execute(f"SELECT 1 FROM {table} AND {where} LIMIT 1", (pair, step)).fetchone()
            for table in ("seen WHERE pair = ? AND held = 0", "kept WHERE pair = ?")
        )

    def _beside_events(self, start: int, end: int) -> Iterable[int]:
        marks = ",".join("?" * len(KINDS))
        found = self._c.execute(
            f"SELECT step FROM events WHERE kind IN ({marks}) AND step BETWEEN ? AND ? AND number >= coalesce("
            f"(SELECT number FROM events WHERE kind IN ({marks}) ORDER BY number DESC LIMIT 1 OFFSET {EVENTS - 1}), 0)",
            (*KINDS, start - 1, end + 1, *KINDS),
        )
        return {step + beside for (step,) in found for beside in (-1, 0, 1)}

    def _snap(self) -> None:
        """Write down every pair's latest row as of now, and drop the old snapshots that few rows lie between."""
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
        """Windows that reach beyond a step are looked at again; the rows themselves are the caller's."""
        for number, upto in self._upto.items():
            width = STEPS << number
            begin = (step + 1) // width * width
            if upto > begin:
                self._c.execute("INSERT OR REPLACE INTO thinned VALUES (?, ?)", (number, begin))


def layouts_of(connection: sqlite3.Connection) -> dict[int, list[str]]:
    """Names of the terms by layout."""
    return {number: json.loads(names) for number, names in connection.execute("SELECT id, names FROM columns")}
