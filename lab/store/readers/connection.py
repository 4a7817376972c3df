"""Read-only connections to one run store, with transactions for consistent reads."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.store.pair_rows import ROWS, blocks, frame
from lab.store.schema import UnchangingConnection, open_for_reading

from .series import SeriesRange

if TYPE_CHECKING:
    import pandas as pd


class StoreConnection:
    """The SQLite file of one run, opened read-only with one connection per thread.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        self._pair_ids = np.array([None], object)  # by the pairs' numbers, which begin at 1

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a SELECT statement."""
        return self._connection().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all reads inside see the same state of the store, even if the writer moves rows meanwhile. May be nested."""
        connection = self._connection()
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("COMMIT")

    def series(self, kind: str) -> dict[str, int]:
        """Return the series of a kind (`SCALAR` or `LAYER`): id by name, in the order in which they were first recorded."""
        return dict(self.query("SELECT name, id FROM series WHERE kind = ? ORDER BY id", (kind,)))

    def series_range(self, kind: str, first: int, last: int) -> SeriesRange:
        """Return access to the series of a kind between two steps; cached until the store changes. Call it in a transaction."""
        ((version,),) = self.query("PRAGMA data_version")
        cache: dict[str, tuple[tuple[int, int, int], SeriesRange]] = self._local.__dict__.setdefault("ranges", {})
        if kind not in cache or cache[kind][0] != (version, first, last):
            cache[kind] = (version, first, last), SeriesRange(self.query, kind, first, last)
        return cache[kind][1]

    def layouts(self) -> dict[int, list[str]]:
        """Return the names of the pair terms by the id of their layout."""
        return {number: json.loads(names) for number, names in self.query("SELECT id, names FROM columns")}

    def pair_ids(self) -> np.ndarray:
        """Return the pairs' ids by their number in the store: object [P + 1], None at 0. Cached, because numbers never change."""
        known = self._pair_ids
        new = self.query("SELECT pair FROM pairs WHERE id >= ? ORDER BY id", (len(known),))
        if new:
            known = self._pair_ids = np.concatenate([known, np.array([pair for (pair,) in new], object)])
        return known

    def rows_of_steps(self, table: str, steps: Sequence[int]) -> list[tuple[Any, ...]]:
        """Return the rows of `batches` or `held_out` for some steps, in ascending order of the steps within every 500."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(steps), 500):
            some = steps[start : start + 500]
            rows += self.query(f"SELECT {ROWS} FROM {table} WHERE step IN ({','.join('?' * len(some))}) ORDER BY step", some)
        return rows

    def pair_frame(self, sql: str, values: Sequence[Any]) -> pd.DataFrame:
        """Return rows of `batches` or `held_out` as a frame: pair, step, version and one column per term."""
        with self.transaction():
            return frame(blocks(self.query(sql, values)), self.layouts(), self.pair_ids())

    def span(self, *places: tuple[str, str, str]) -> tuple[int, int] | None:
        """Return the lowest and the highest step in some tables, or None if they are empty.

        Args:
            places: For each table: the column of the lowest step, that of the highest, and what follows FROM.
        """
        with self.transaction():
            ends = [self.query(f"SELECT min({low}), max({high}) FROM {place}")[0] for low, high, place in places]
        ends = [(low, high) for low, high in ends if low is not None]
        return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None

    def series_span(self, kind: str) -> tuple[int, int] | None:
        """Return the first and the last step of the series of a kind, or None if there are none."""
        packs = f"packs JOIN series ON id = series WHERE level = 0 AND kind = '{kind}'"
        return self.span(("first", "last", packs), ("step", "step", f"recent WHERE kind = '{kind}'"))

    def close(self) -> None:
        """Close this thread's connection; it is opened again by the next read."""
        connection: sqlite3.Connection | None = self._local.__dict__.pop("connection", None)
        self._local.__dict__.pop("ranges", None)
        if connection is not None:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or (isinstance(connection, UnchangingConnection) and connection.outdated):
            connection = self._local.connection = open_for_reading(self.folder)
        return connection
