"""Pair terms as they lie in the store, and as arrays: rows of one step in a blob each of pairs, versions and terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

HEAD = ("pair", "step", "version")
"""What stands before the terms in every frame of pairs."""

ROWS = "step, columns, count, pairs, versions, terms"
"""The columns of `batches` and `held_out`, one row a step."""

SINGLES = "pair, step, version, columns, terms"
"""Those of `kept`, one row a pair and step."""


@dataclass(frozen=True)
class Block:
    """Rows with the same terms: at [n] (their place among all that were read), steps [n], pairs [n] (ids), versions [n],
    terms float32 [n, T]; columns: the number of their layout, whose names are in the table of that name."""

    columns: int
    at: np.ndarray
    steps: np.ndarray
    pairs: np.ndarray
    versions: np.ndarray
    terms: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Block:
        """Some of the rows, by index or mask."""
        return Block(self.columns, self.at[which], self.steps[which], self.pairs[which], self.versions[which], self.terms[which])


def blocks(rows: Sequence[tuple[Any, ...]]) -> list[Block]:
    """Rows of `batches` or `held_out` (step, columns, count, pairs, versions, terms) as arrays, a block a layout."""
    if not rows:
        return []
    layouts = np.array([row[1] for row in rows])
    counts = np.array([row[2] for row in rows])
    ends = np.cumsum(counts)
    found = []
    for layout in np.unique(layouts).tolist():
        mine = np.flatnonzero(layouts == layout)
        part = [rows[i] for i in mine.tolist()] if len(mine) < len(rows) else rows
        length = counts[mine]
        total = int(length.sum())
        if not total:
            continue
        at = np.arange(total) + np.repeat(ends[mine] - length - (np.cumsum(length) - length), length)
        found.append(
            Block(
                layout,
                at,
                np.repeat(np.array([row[0] for row in part], np.int64), length),
                np.frombuffer(b"".join(row[3] for row in part), np.int32),
                np.frombuffer(b"".join(row[4] for row in part), np.int32),
                np.frombuffer(b"".join(row[5] for row in part), np.float32).reshape(total, -1),
            )
        )
    return found


def single(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of `kept` (pair, step, version, columns, terms) in the shape of a row of `batches`."""
    pair, step, version, columns, terms = row
    return step, columns, 1, np.int32(pair).tobytes(), np.int32(version).tobytes(), terms


def frame(found: Sequence[Block], layouts: Mapping[int, Sequence[str]], names: np.ndarray) -> pd.DataFrame:
    """One row each in the order they were read: pair, step, version, one column a term; NaN where a row has not that term.

    layouts: the terms' names by layout.   names: object [P + 1], the pairs' own ids by their number.
    """
    import pandas as pd

    columns = terms_of([layouts[block.columns] for block in found])
    if not found:
        return pd.DataFrame(columns=list(HEAD))
    total = sum(len(block.at) for block in found)
    if len(found) == 1 and (np.diff(found[0].at) > 0).all():
        pairs, steps, versions, terms = found[0].pairs, found[0].steps, found[0].versions, found[0].terms
    else:
        order = np.argsort(np.concatenate([block.at for block in found]), kind="stable")
        pairs, steps, versions = (
            np.concatenate([getattr(block, part) for block in found])[order] for part in ("pairs", "steps", "versions")
        )
        terms = np.full((total, len(columns)), np.nan, np.float32)
        start = 0
        for block in found:
            into = [columns.index(name) for name in layouts[block.columns]]
            terms[start : start + len(block.at), into] = block.terms
            start += len(block.at)
        terms = terms[order]
    head = pd.DataFrame({"pair": names[pairs], "step": steps.astype(np.int64), "version": versions.astype(np.int64)})
    return pd.concat([head, pd.DataFrame(terms, columns=list(columns))], axis=1)


def terms_of(layouts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All names of some layouts, each once, in the order they appear."""
    return tuple(dict.fromkeys(name for names in layouts for name in names))


@dataclass
class Latest:
    """Every pair's latest row: arrays by the pair's number, steps -1 where it was not seen yet.

    steps int64 [P], versions int32 [P], columns int32 [P], terms float32 [P, T] in the order of `names`.
    """

    names: tuple[str, ...] = ()
    steps: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    versions: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    columns: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    terms: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def take(self, found: Sequence[Block], layouts: Mapping[int, Sequence[str]]) -> None:
        """Put later rows in the place of those that are here; of several of one pair the last in order counts."""
        if not found:
            return
        self._widen(max(int(block.pairs.max()) for block in found) + 1, [layouts[block.columns] for block in found])
        last = np.full(len(self.steps), -1, np.int64)
        for block in found:
            mine = np.full(len(last), -1, np.int64)
            mine[block.pairs] = block.at  # of a pair that comes again the last one stays
            np.maximum(last, mine, out=last)
        for block in found:
            block = block[block.at == last[block.pairs]]
            self.steps[block.pairs], self.versions[block.pairs] = block.steps, block.versions
            self.columns[block.pairs] = block.columns
            names = tuple(layouts[block.columns])
            if names == self.names:
                self.terms[block.pairs] = block.terms
            else:
                wide = np.full((len(block.pairs), len(self.names)), np.nan, np.float32)
                wide[:, [self.names.index(name) for name in names]] = block.terms
                self.terms[block.pairs] = wide

    def _widen(self, pairs: int, layouts: list[Sequence[str]]) -> None:
        names = terms_of([self.names, *layouts])
        more = max(pairs - len(self.steps), 0)
        if not more and names == self.names:
            return
        self.steps = np.concatenate([self.steps, np.full(more, -1, np.int64)])
        self.versions = np.concatenate([self.versions, np.zeros(more, np.int32)])
        self.columns = np.concatenate([self.columns, np.zeros(more, np.int32)])
        terms = np.full((len(self.steps), len(names)), np.nan, np.float32)
        terms[: self.terms.shape[0], : self.terms.shape[1]] = self.terms
        self.names, self.terms = names, terms

    def frame(self, layouts: Mapping[int, Sequence[str]], names: np.ndarray) -> pd.DataFrame:
        """One row a pair that was seen, in the order of their numbers; a column for each term that one of them has."""
        import pandas as pd

        there = np.flatnonzero(self.steps >= 0)
        if not len(there):
            return pd.DataFrame(columns=list(HEAD))
        wanted = terms_of([layouts[number] for number in np.unique(self.columns[there]).tolist()])
        terms = self.terms[there]
        if wanted != self.names:
            terms = terms[:, [self.names.index(name) for name in wanted]]
        frame = pd.DataFrame(terms, columns=list(wanted), copy=False)
        frame.insert(0, "pair", pd.Series(names[there], dtype=object))  # to look through all for a better type takes longer
        frame.insert(1, "step", self.steps[there])
        frame.insert(2, "version", self.versions[there].astype(np.int64))
        return frame

    def row(self, step: int) -> tuple[Any, ...]:
        """A row of `snapshots`."""
        blobs = (self.steps.tobytes(), self.versions.tobytes(), self.columns.tobytes(), self.terms.tobytes())
        return step, json.dumps(self.names), *blobs

    @classmethod
    def of_row(cls, names: str, steps: bytes, versions: bytes, columns: bytes, terms: bytes) -> Latest:
        """What a row of `snapshots` says, without its own step."""
        known = tuple(json.loads(names))
        at = np.frombuffer(steps, np.int64).copy()
        return cls(
            known,
            at,
            np.frombuffer(versions, np.int32).copy(),
            np.frombuffer(columns, np.int32).copy(),
            np.frombuffer(terms, np.float32).reshape(len(at), len(known)).copy(),
        )


SNAPSHOT = "SELECT step, names, steps, versions, columns, terms FROM snapshots WHERE step <= ? ORDER BY step DESC LIMIT 1"
BATCHES = f"SELECT {ROWS} FROM batches WHERE step > ? AND step <= ? ORDER BY step"
KEPT = f"SELECT {SINGLES} FROM kept WHERE step > ? AND step <= ? ORDER BY step"


def latest_at(query: Any, step: int, layouts: Mapping[int, Sequence[str]]) -> Latest:
    """Every pair's latest row at or before a step: the snapshot before it, and what is kept of the steps since.

    query(sql, values) -> rows
    """
    found = query(SNAPSHOT, (step,))
    before, latest = (found[0][0], Latest.of_row(*found[0][1:])) if found else (-1, Latest())
    rows = query(BATCHES, (before, step))
    singles = [single(row) for row in query(KEPT, (before, step))]
    if singles:
        rows = sorted([*rows, *singles], key=lambda row: row[0])
    latest.take(blocks(rows), layouts)
    return latest
