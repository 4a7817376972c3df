"""Read the terms of pairs, trained on and held out: one row per pair and step, one column per term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.store.pair_rows import ROWS, SINGLES, blocks, frame, latest_at, single, terms_of

from .connection import StoreConnection
from .series import end_of

if TYPE_CHECKING:
    import pandas as pd


class PairReader:
    """Terms of the pairs that are trained on.

    Frames have the columns `pair` (id), `step`, `version` (of the pair) and one column per term. Old steps may have been thinned
    out; `lab.store.thinning` documents which rows remain.
    """

    def __init__(self, connection: StoreConnection) -> None:
        self._store = connection

    def latest(self, step: int | None = None) -> pd.DataFrame:
        """Return the latest recorded row of every pair, at or before `step` if it is given."""
        with self._store.transaction():
            layouts = self._store.layouts()
            return latest_at(self._store.query, end_of(step), layouts).frame(layouts, self._store.pair_ids())

    def batch(self, step: int) -> pd.DataFrame:
        """Return the pairs of one step's batch; empty if the step was thinned out."""
        return self._store.pair_frame(f"SELECT {ROWS} FROM batches WHERE step = ?", (step,))

    def batches(self, most: int, step: int | None = None) -> pd.DataFrame:
        """Return the pairs of the latest `most` steps that are stored whole, at or before `step` if it is given, by step."""
        newest = f"SELECT {ROWS} FROM batches WHERE step <= ? ORDER BY step DESC LIMIT ?"
        return self._store.pair_frame(f"SELECT * FROM ({newest}) ORDER BY step", (end_of(step), most))

    def read(self, *, first: int = 0, last: int | None = None) -> pd.DataFrame:
        """Return every stored row from step `first` to `last`, by step: whole batches, and single rows of thinned steps."""
        span = (first, end_of(last))
        with self._store.transaction():
            whole = self._store.query(f"SELECT {ROWS} FROM batches WHERE step BETWEEN ? AND ? ORDER BY step", span)
            kept = f"SELECT {SINGLES} FROM kept WHERE step BETWEEN ? AND ? ORDER BY step"
            singles = [single(row) for row in self._store.query(kept, span)]
            every = sorted([*whole, *singles], key=lambda row: row[0]) if singles else whole
            return frame(blocks(every), self._store.layouts(), self._store.pair_ids())

    def span(self) -> tuple[int, int] | None:
        """Return the first and the last step with stored rows, or None if there are none."""
        return self._store.span(("step", "step", "batches"), ("step", "step", "kept"))

    def history(self, pair: str, *, last: int | None = None, points: int | None = None) -> pd.DataFrame:
        """Return the stored rows of one pair, trained on or held out, oldest first.

        Args:
            pair: Id of the pair.
            last: Last step, included; None reads to the end.
            points: At most this many rows, evenly spaced, the first and the latest among them; None reads all.

        Returns:
            A frame; `attrs["stands_for"]` is the number of stored rows, before `points` was applied.
        """
        store = self._store
        with store.transaction():
            numbers = store.query("SELECT id FROM pairs WHERE pair = ?", (pair,))
            number = numbers[0][0] if numbers else -1
            end = end_of(last)
            kept = {
                row[1]: single(row)
                for row in store.query(f"SELECT {SINGLES} FROM kept WHERE pair = ? AND step <= ?", (number, end))
            }
            seen = [
                (step, held)
                for held in (0, 1)
                for (step,) in store.query("SELECT step FROM seen WHERE pair = ? AND held = ? AND step <= ?", (number, held, end))
            ]
            every = sorted([*seen, *((step, -1) for step in kept)])
            stands_for = len(every)
            if points is not None and len(every) > points:
                every = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, max(points, 2)).round().astype(int))]
            rows = [kept[step] for step, held in every if held == -1]
            for held, table in enumerate(("batches", "held_out")):
                rows += store.rows_of_steps(table, [step for step, where in every if where == held])
            rows.sort(key=lambda row: row[0])
            of_pair = [block[block.pairs == number] for block in blocks(rows)]
            history = frame([block for block in of_pair if len(block.at)], store.layouts(), store.pair_ids())
        history = history.reset_index(drop=True)
        history.attrs["stands_for"] = stands_for
        return history

    def steps_of(self, pair: str) -> list[int]:
        """Return the steps of the rows of `history`, oldest first, without reading the rows."""
        own = "WHERE pair = (SELECT id FROM pairs WHERE pair = ?1)"
        rows = self._store.query(f"SELECT step FROM seen {own} UNION ALL SELECT step FROM kept {own} ORDER BY step", (pair,))
        return [step for (step,) in rows]

    def over_time(
        self, terms: Sequence[str], *, first: int = 0, last: int | None = None, columns: int = 150, rows_per_column: int = 64
    ) -> pd.DataFrame:
        """Return values of some terms over the run, for a heat map.

        Args:
            terms: Names of the terms.
            first: First step.
            last: Last step, included; None reads to the end.
            columns: At most this many evenly spaced steps. Where such a step was thinned out, the stored one before it.
            rows_per_column: At most this many pairs of each step.

        Returns:
            A frame with the columns `step`, `pair` and one per term.
        """
        import pandas as pd

        store, span = self._store, (first, end_of(last))
        with store.transaction():
            (low,), (high,) = (
                store.query(f"SELECT {what} FROM batches WHERE step {where} ?", (end,))[0]
                for what, where, end in (("min(step)", ">=", span[0]), ("max(step)", "<=", span[1]))
            )
            if low is None or high is None or low > high:
                return pd.DataFrame(columns=["step", "pair", *terms])
            places = np.unique(np.linspace(low, high, columns).round().astype(int)).tolist()
            steps = {store.query("SELECT max(step) FROM batches WHERE step <= ?", (place,))[0][0] for place in places}
            rows = [_first_pairs(row, rows_per_column) for row in store.rows_of_steps("batches", sorted(steps))]
            values = frame(blocks(rows), store.layouts(), store.pair_ids())
        return values.reindex(columns=["step", "pair", *terms])

    def term_names(self, step: int | None = None) -> tuple[str, ...]:
        """Return the terms that the latest step recorded, at or before `step` if it is given; empty before the first step."""
        with self._store.transaction():
            rows = self._store.query("SELECT columns FROM batches WHERE step <= ? ORDER BY step DESC LIMIT 1", (end_of(step),))
            return tuple(self._store.layouts()[rows[0][0]]) if rows else ()

    def all_term_names(self) -> tuple[str, ...]:
        """Return every term that was recorded at any step, of pairs trained on or held out."""
        return terms_of(list(self._store.layouts().values()))


class HeldOutReader:
    """Terms of the held-out pairs at every evaluation, in frames like those of `PairReader`. They are never thinned."""

    def __init__(self, connection: StoreConnection) -> None:
        self._store = connection

    def latest(self, step: int | None = None) -> pd.DataFrame:
        """Return the held-out pairs at the latest evaluation, at or before `step` if it is given."""
        return self._store.pair_frame(f"SELECT {ROWS} FROM held_out WHERE step <= ? ORDER BY step DESC LIMIT 1", (end_of(step),))

    def read(self, *, first: int = 0, last: int | None = None) -> pd.DataFrame:
        """Return the held-out pairs at every evaluation from step `first` to `last`, oldest first."""
        sql = f"SELECT {ROWS} FROM held_out WHERE step BETWEEN ? AND ? ORDER BY step"
        return self._store.pair_frame(sql, (first, end_of(last)))

    def span(self) -> tuple[int, int] | None:
        """Return the steps of the first and the last evaluation, or None if there is none."""
        return self._store.span(("step", "step", "held_out"))


def _first_pairs(row: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """Cut a row of `batches` to its first `most` pairs."""
    step, columns, count, *blobs = row
    few = min(count, most)
    return step, columns, few, *(blob[: len(blob) // max(count, 1) * few] for blob in blobs)
