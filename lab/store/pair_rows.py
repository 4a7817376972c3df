"""Convert pair terms between the blobs of the store (one row per step: pairs, versions, terms), arrays and frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

HEAD = ("pair", "step", "version")
"""Columns before the terms in every frame of pairs."""

ROWS = "step, columns, count, pairs, versions, terms"
"""Columns of `batches` and `held_out`, which have one row per step."""

SINGLES = "pair, step, version, columns, terms"
"""Columns of `kept`, which has one row per pair and step."""


@dataclass(frozen=True)
class Block:
    """Rows of pairs that have the same terms.

    Attributes:
        columns: Id of their layout; the table `columns` holds the names of its terms.
        at: Positions among all rows that were read, [n].
        steps: [n].
        pairs: Numbers of the pairs, [n].
        versions: [n].
        terms: float32 [n, T].
    """

    columns: int
    at: np.ndarray
    steps: np.ndarray
    pairs: np.ndarray
    versions: np.ndarray
    terms: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Block:
        """Return some of the rows, by index or mask."""
        return Block(self.columns, self.at[which], self.steps[which], self.pairs[which], self.versions[which], self.terms[which])


def blocks(rows: Sequence[tuple[Any, ...]]) -> list[Block]:
    """Convert rows of `batches` or `held_out` (step, columns, count, pairs, versions, terms) to one block per layout."""
    if not rows:
        return []
    layouts = np.array([row[1] for row in rows])
    counts = np.array([row[2] for row in rows])
    ends = np.cumsum(counts)
    parsed = []
    for layout in np.unique(layouts).tolist():
        mine = np.flatnonzero(layouts == layout)
        part = [rows[i] for i in mine.tolist()] if len(mine) < len(rows) else rows
        length = counts[mine]
        total = int(length.sum())
        if not total:
            continue
        at = np.arange(total) + np.repeat(ends[mine] - length - (np.cumsum(length) - length), length)
        parsed.append(
            Block(
                layout,
                at,
                np.repeat(np.array([row[0] for row in part], np.int64), length),
                np.frombuffer(b"".join(row[3] for row in part), np.int32),
                np.frombuffer(b"".join(row[4] for row in part), np.int32),
                np.frombuffer(b"".join(row[5] for row in part), np.float32).reshape(total, -1),
            )
        )
    return parsed


def single(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Convert a row of `kept` (pair, step, version, columns, terms) to the shape of a row of `batches`."""
    pair, step, version, columns, terms = row
    return step, columns, 1, np.int32(pair).tobytes(), np.int32(version).tobytes(), terms


def frame(blocks: Sequence[Block], layouts: Mapping[int, Sequence[str]], pair_ids: np.ndarray) -> pd.DataFrame:
    """Return a frame with pair, step, version and one column per term (NaN if a row lacks it), in the order of reading.

    Args:
        blocks: The rows.
        layouts: Names of the terms by layout.
        pair_ids: Ids of the pairs by their number, object [P + 1].
    """
    import pandas as pd

    columns = terms_of([layouts[block.columns] for block in blocks])
    if not blocks:
        return pd.DataFrame(columns=list(HEAD))
    total = sum(len(block.at) for block in blocks)
    if len(blocks) == 1 and (np.diff(blocks[0].at) > 0).all():
        pairs, steps, versions, terms = blocks[0].pairs, blocks[0].steps, blocks[0].versions, blocks[0].terms
    else:
        order = np.argsort(np.concatenate([block.at for block in blocks]), kind="stable")
        pairs, steps, versions = (
            np.concatenate([getattr(block, part) for block in blocks])[order] for part in ("pairs", "steps", "versions")
        )
        terms = np.full((total, len(columns)), np.nan, np.float32)
        start = 0
        for block in blocks:
            into = [columns.index(name) for name in layouts[block.columns]]
            terms[start : start + len(block.at), into] = block.terms
            start += len(block.at)
        terms = terms[order]
    head = pd.DataFrame({"pair": pair_ids[pairs], "step": steps.astype(np.int64), "version": versions.astype(np.int64)})
    return pd.concat([head, pd.DataFrame(terms, columns=list(columns))], axis=1)


def terms_of(layouts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return all names of some layouts, each once, in order of appearance."""
    return tuple(dict.fromkeys(name for names in layouts for name in names))


@dataclass
class Latest:
    """The latest row of every pair, as arrays indexed by the pair's number.

    Attributes:
        names: Names of the terms.
        steps: int64 [P], -1 for a pair without a row.
        versions: int32 [P].
        columns: Layouts, int32 [P].
        terms: float32 [P, T], in the order of `names`.
    """

    names: tuple[str, ...] = ()
    steps: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    versions: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    columns: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    terms: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def update(self, blocks: Sequence[Block], layouts: Mapping[int, Sequence[str]]) -> None:
        """Replace rows by later ones; of several rows of one pair the last in order of reading counts."""
        if not blocks:
            return
        self._widen(max(int(block.pairs.max()) for block in blocks) + 1, [layouts[block.columns] for block in blocks])
        last = np.full(len(self.steps), -1, np.int64)
        for block in blocks:
            positions = np.full(len(last), -1, np.int64)
            positions[block.pairs] = block.at  # of a repeated pair the last one remains
            np.maximum(last, positions, out=last)
        for block in blocks:
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

    def frame(self, layouts: Mapping[int, Sequence[str]], pair_ids: np.ndarray) -> pd.DataFrame:
        """Return the rows as a frame with pair, step, version and one column per term that any row has, ordered by pair number.

        Args:
            layouts: Names of the terms by layout.
            pair_ids: Ids of the pairs by their number, object [P + 1].
        """
        import pandas as pd

        rows = np.flatnonzero(self.steps >= 0)
        if not len(rows):
            return pd.DataFrame(columns=list(HEAD))
        wanted = terms_of([layouts[number] for number in np.unique(self.columns[rows]).tolist()])
        terms = self.terms[rows]
        if wanted != self.names:
            terms = terms[:, [self.names.index(name) for name in wanted]]
        frame = pd.DataFrame(terms, columns=list(wanted), copy=False)
        frame.insert(0, "pair", pd.Series(pair_ids[rows], dtype=object))  # inferring a better type would take longer
        frame.insert(1, "step", self.steps[rows])
        frame.insert(2, "version", self.versions[rows].astype(np.int64))
        return frame

    def row(self, step: int) -> tuple[Any, ...]:
        """Return the values as a row of `snapshots`."""
        blobs = (self.steps.tobytes(), self.versions.tobytes(), self.columns.tobytes(), self.terms.tobytes())
        return step, json.dumps(self.names), *blobs

    @classmethod
    def of_row(cls, names: str, steps: bytes, versions: bytes, columns: bytes, terms: bytes) -> Latest:
        """Build the values from a row of `snapshots` without its step."""
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
    """Return the latest row of every pair at or before a step: from the snapshot before it and the stored rows since.

    Args:
        query: query(sql, values) returns the rows of a SELECT statement.
        step: The step.
        layouts: Names of the terms by layout.
    """
    snapshots = query(SNAPSHOT, (step,))
    before, latest = (snapshots[0][0], Latest.of_row(*snapshots[0][1:])) if snapshots else (-1, Latest())
    rows = query(BATCHES, (before, step))
    singles = [single(row) for row in query(KEPT, (before, step))]
    if singles:
        rows = sorted([*rows, *singles], key=lambda row: row[0])
    latest.update(blocks(rows), layouts)
    return latest
