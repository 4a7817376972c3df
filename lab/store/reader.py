"""Reading a run store, from any thread or process, while it is being written or long after.

Reads cost what is asked for, not what was written. Each takes one moment of the store: what the writer moves meanwhile is neither
missed nor met twice, and no reader waits for the writer or holds it up.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .layer_rows import layer_frame
from .pair_rows import ROWS, SINGLES, blocks, frame, latest_at, single, terms_of
from .schema import open_for_reading
from .series import LAYER, SCALAR
from .series_reading import END, SeriesReading
from .summaries import of_values

if TYPE_CHECKING:
    import pandas as pd

SCREEN_POINTS = 1000
"""No curve on a screen needs more points than this."""


class StoreReader:
    """A read-only view of the run store in `folder`. Raises FileNotFoundError where there is none.

    Safe to share between threads. All frames come back as pandas; an empty store gives empty frames with their columns.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        self._pair_names = np.array([None], object)  # by the pairs' numbers, which begin at 1
        self.status()  # a file that is no store is met here, and not in the middle of a page

    def status(self) -> dict[str, Any]:
        """Facts about the run as a whole, by name."""
        return {key: json.loads(value) for key, value in self._query("SELECT key, value FROM status")}

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        found = self._query("SELECT value FROM status WHERE key = 'step'")
        return int(json.loads(found[0][0])) if found else 0

    def names(self) -> list[str]:
        """Names of the scalars that were recorded."""
        return sorted(self._series(SCALAR))

    def scalars(
        self, names: Sequence[str] | None = None, *, first: int = 0, last: int | None = None, points: int | None = None
    ) -> pd.DataFrame:
        """Scalars by step: index `step`, one column a name, NaN where a name has no value at a step.

        points: if given, at most so many values of each series: of every bucket of steps the lowest and the highest are kept, with
        their true steps, so that spikes stay, and the values at both ends; every value where there are no more than that. This
        costs the same however long the run. Names that were never recorded come back as empty columns.
        `frame.attrs["stands_for"]` says for each name how many recorded values its column stands for.
        """
        with self._moment():
            known = self._series(SCALAR)
            wanted = list(names) if names is not None else sorted(known)
            reading = self._reading(SCALAR, first, _end(last))
            columns, counts = {}, {}
            for name in wanted:
                steps, values, count = np.empty(0, np.int64), np.empty(0), 0
                if name in known and points is not None:
                    steps, values, count = reading.points(known[name], points)
                elif name in known:
                    steps, values = reading.values(known[name])
                    count = len(steps)
                columns[name], counts[name] = (steps, values), count
        return _by_step(columns, counts)

    def means(
        self, names: Sequence[str], *, width: int = 1, first: int = 0, last: int | None = None, points: int = SCREEN_POINTS
    ) -> pd.DataFrame:
        """Trailing means over about `width` values of each series, at no more than `points` steps; a frame as `scalars` gives it.

        For lines that are smoothed: the values that `scalars(points=)` leaves are extremes, whose mean says nothing. It is exact
        where every value can be read, else its beginning is off by less than a point of the line. NaN and infinities are left out.
        """
        with self._moment():
            known = self._series(SCALAR)
            reading = self._reading(SCALAR, first, _end(last))
            columns, counts = {}, {}
            for name in names:
                steps, means, count = np.empty(0, np.int64), np.empty(0), 0
                if name in known:
                    steps, means, count = reading.means(known[name], width, points)
                columns[name], counts[name] = (steps, means), count
        return _by_step(columns, counts)

    def latest(self) -> dict[str, float]:
        """Every scalar's value at the latest step at which it was recorded."""
        with self._moment():
            known = self._series(SCALAR)
            newest = self._reading(SCALAR, 0, END).recent()
            found = {}
            for name, series in known.items():
                if series in newest:
                    found[name] = float(newest[series][1][-1])
                else:
                    packs = self._query(
                        "SELECT data FROM packs WHERE series = ? AND level = 0 ORDER BY number DESC LIMIT 1", (series,)
                    )
                    if packs:
                        found[name] = float(np.frombuffer(packs[0][0], np.float64)[-1])
        return dict(sorted(found.items()))

    def pairs(self, step: int | None = None) -> pd.DataFrame:
        """One row a pair: `pair` (id), the `step` it was last seen (at or before `step`, if given), `version`, a column a term.

        Where the steps before `step` have been thinned (see `lab.store.thinning`), a pair's latest row that is kept.
        """
        with self._moment():
            layouts = self._layouts()
            return latest_at(self._query, _end(step), layouts).frame(layouts, self._names_of_pairs())

    def held_out(self, step: int | None = None) -> pd.DataFrame:
        """The pairs that are never trained on, at the latest look (at or before `step`, if given); columns as in `pairs`."""
        return self._frame(f"SELECT {ROWS} FROM held_out WHERE step <= ? ORDER BY step DESC LIMIT 1", (_end(step),))

    def looks(self, *, first: int = 0, last: int | None = None) -> pd.DataFrame:
        """What every look found of the pairs that are never trained on, oldest first; columns as in `pairs`."""
        return self._frame(f"SELECT {ROWS} FROM held_out WHERE step BETWEEN ? AND ? ORDER BY step", (first, _end(last)))

    def batch(self, step: int) -> pd.DataFrame:
        """The pairs of one step's batch, in the same columns as `pairs`; none where the step has been thinned out."""
        return self._frame(f"SELECT {ROWS} FROM batches WHERE step = ?", (step,))

    def batches(self, most: int, step: int | None = None) -> pd.DataFrame:
        """The pairs of the latest `most` steps that are kept whole (at or before `step`, if given), by step, as in `pairs`."""
        found = f"SELECT {ROWS} FROM batches WHERE step <= ? ORDER BY step DESC LIMIT ?"
        return self._frame(f"SELECT * FROM ({found}) ORDER BY step", (_end(step), most))

    def rows(self, *, first: int = 0, last: int | None = None) -> pd.DataFrame:
        """Every row of pair terms that is kept, by step: whole steps, and single rows of thinned ones; columns as in `pairs`."""
        span = (first, _end(last))
        with self._moment():
            whole = self._query(f"SELECT {ROWS} FROM batches WHERE step BETWEEN ? AND ? ORDER BY step", span)
            kept = f"SELECT {SINGLES} FROM kept WHERE step BETWEEN ? AND ? ORDER BY step"
            singles = [single(row) for row in self._query(kept, span)]
            every = sorted([*whole, *singles], key=lambda row: row[0]) if singles else whole
            return frame(blocks(every), self._layouts(), self._names_of_pairs())

    def pair_history(self, pair: str, *, last: int | None = None, points: int | None = None) -> pd.DataFrame:
        """Every step at which one pair was seen, trained on or held out, oldest first, in the same columns as `pairs`.

        points: at most so many rows, evenly chosen, the first and the latest among them.   Thinned steps are not there.
        `attrs["stands_for"]` is the number of steps that are.
        """
        with self._moment():
            found = self._query("SELECT id FROM pairs WHERE pair = ?", (pair,))
            number = found[0][0] if found else -1
            end = _end(last)
            kept = {
                row[1]: single(row)
                for row in self._query(f"SELECT {SINGLES} FROM kept WHERE pair = ? AND step <= ?", (number, end))
            }
            seen = [
                (step, held)
                for held in (0, 1)
                for (step,) in self._query("SELECT step FROM seen WHERE pair = ? AND held = ? AND step <= ?", (number, held, end))
            ]
            every = sorted([*seen, *((step, -1) for step in kept)])
            stands_for = len(every)
            if points is not None and len(every) > points:
                every = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, max(points, 2)).round().astype(int))]
            rows = [kept[step] for step, held in every if held == -1]
            for held, table in enumerate(("batches", "held_out")):
                rows += self._rows_of(table, [step for step, where in every if where == held])
            rows.sort(key=lambda row: row[0])
            mine = [block[block.pairs == number] for block in blocks(rows)]
            history = frame([block for block in mine if len(block.at)], self._layouts(), self._names_of_pairs())
        history = history.reset_index(drop=True)
        history.attrs["stands_for"] = stands_for
        return history

    def seen(self, pair: str) -> list[int]:
        """The steps at which one pair was seen and that are kept, those of `pair_history`, oldest first."""
        own = "WHERE pair = (SELECT id FROM pairs WHERE pair = ?1)"
        rows = self._query(f"SELECT step FROM seen {own} UNION ALL SELECT step FROM kept {own} ORDER BY step", (pair,))
        return [step for (step,) in rows]

    def terms_over_time(
        self, terms: Sequence[str], *, first: int = 0, last: int | None = None, columns: int = 150, rows_per_column: int = 64
    ) -> pd.DataFrame:
        """Values of some terms over the run, for a picture `columns` wide: `step`, `pair`, one column a term.

        Reads the batches of at most `columns` evenly spaced steps (all of them if there are fewer); where the step at such a place
        has been thinned out, the one before it that is kept.
        """
        import pandas as pd

        span = (first, _end(last))
        with self._moment():
            (low,), (high,) = (
                self._query(f"SELECT {what} FROM batches WHERE step {where} ?", (end,))[0]
                for what, where, end in (("min(step)", ">=", span[0]), ("max(step)", "<=", span[1]))
            )
            if low is None or high is None or low > high:
                return pd.DataFrame(columns=["step", "pair", *terms])
            places = np.unique(np.linspace(low, high, columns).round().astype(int)).tolist()
            there = {self._query("SELECT max(step) FROM batches WHERE step <= ?", (place,))[0][0] for place in places}
            rows = [_beginning(row, rows_per_column) for row in self._rows_of("batches", sorted(there))]
            found = frame(blocks(rows), self._layouts(), self._names_of_pairs())
        return found.reindex(columns=["step", "pair", *terms])

    def term_names(self, step: int | None = None) -> tuple[str, ...]:
        """The pair terms that the latest step (at or before `step`, if given) recorded; none before the first."""
        with self._moment():
            found = self._query("SELECT columns FROM batches WHERE step <= ? ORDER BY step DESC LIMIT 1", (_end(step),))
            return tuple(self._layouts()[found[0][0]]) if found else ()

    def all_term_names(self) -> tuple[str, ...]:
        """Every pair term that was recorded at any step."""
        return terms_of(list(self._layouts().values()))

    def token_steps(self) -> list[int]:
        """Steps for which token values are still kept."""
        return [step for (step,) in self._query("SELECT DISTINCT step FROM tokens ORDER BY step")]

    def tokens(self, step: int, pair: str | None = None) -> pd.DataFrame:
        """Token values of a step: pair, side, then ids, logps, ref_logps, credit, pilot, each cell an array [T] (or None)."""
        import pandas as pd

        rows = self._query(
            "SELECT p.pair, t.side, t.ids, t.logps, t.ref_logps, t.credit, t.pilot FROM tokens t JOIN pairs p ON p.id = t.pair "
            "WHERE t.step = ? AND (? IS NULL OR p.pair = ?) ORDER BY t.pair, t.side",
            (step, pair, pair),
        )
        kinds = (np.int32, np.float32, np.float32, np.float32, np.bool_)
        cells = [
            (pair_, side, *(None if blob is None else np.frombuffer(blob, kind) for blob, kind in zip(blobs, kinds)))
            for pair_, side, *blobs in rows
        ]
        return pd.DataFrame(cells, columns=["pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"])

    def panel(self, step: int | None = None, *, first: int = 0) -> pd.DataFrame:
        """Every look at the panel of held-out pairs, from step `first` to `step` (if given), oldest first; a row a pair and look:

        step, pair, chosen, rejected, greedy (log-prob of each answer, summed over its tokens, in nats), chosen_tokens,
        rejected_tokens, greedy_tokens, answer (the greedy one's text), ended (False where it was cut).
        """
        import pandas as pd

        names = ["chosen", "rejected", "greedy", "chosen_tokens", "rejected_tokens", "greedy_tokens", "answer", "ended"]
        rows = self._query(
            f"SELECT t.step, p.pair, {', '.join(names)} FROM panel t JOIN pairs p ON p.id = t.pair WHERE t.step BETWEEN ? AND ? "
            "ORDER BY t.step, t.pair",
            (first, step if step is not None else 2**62),
        )
        frame = pd.DataFrame(rows, columns=["step", "pair", *names])
        return frame.astype({"chosen": np.float64, "rejected": np.float64, "greedy": np.float64, "ended": bool})

    def layers(self, *, first: int = 0, last: int | None = None, points: int | None = None) -> pd.DataFrame:
        """Gradient flow by layer: step, layer, norm_chosen, norm_rejected, cosine, update_ratio (NaN where it was not
        measured); layers in the model's order.

        points: at most so many steps. Of more probes, each row then stands for an even bucket of them: `step` is its middle, the
        columns are means, <column>_low and <column>_high the extremes among them. `frame.attrs["stands_for"]` is the number of
        probed steps.
        """
        with self._moment():
            known = self._series(LAYER)
            reading = self._reading(LAYER, first, _end(last))
            if points is None:
                parts = {name: of_values(*reading.values(series)) for name, series in known.items()}
            else:
                parts = {name: reading.summaries(series, 2 * points) for name, series in known.items()}
        return layer_frame(parts, points)

    def span(self, what: str) -> tuple[int, int] | None:
        """First and last step of which there are "scalars", "layers", "terms", "held_out" or "panel"; None where there is none."""
        packs = "packs JOIN series ON id = series WHERE level = 0 AND kind"
        places = {
            "scalars": (("first", "last", f"{packs} = 'scalar'"), ("step", "step", "recent WHERE kind = 'scalar'")),
            "layers": (("first", "last", f"{packs} = 'layer'"), ("step", "step", "recent WHERE kind = 'layer'")),
            "terms": (("step", "step", "batches"), ("step", "step", "kept")),
            "held_out": (("step", "step", "held_out"),),
            "panel": (("step", "step", "panel"),),
        }[what]
        with self._moment():
            found = [self._query(f"SELECT min({low}), max({high}) FROM {place}")[0] for low, high, place in places]
        there = [ends for ends in found if ends[0] is not None]
        return (min(low for low, _ in there), max(high for _, high in there)) if there else None

    def events(self, *kinds: str, after: int = 0, most: int | None = None, without: Sequence[str] = ()) -> pd.DataFrame:
        """What happened: number, time (unix seconds), step, kind, detail (a dict); oldest first.

        after: only events of a higher number.   most: at most so many of them.
        without: parts of the detail that are not wanted, such as "samples" (the answers that an evaluation shows), which take most
        of the time where there are thousands of evaluations; `event(number)` has them.
        """
        import pandas as pd

        only = f" AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        # A number that is not finite is no JSON for SQLite; Python reads it.
        less = f"CASE WHEN json_valid(detail) THEN json_remove(detail{', ?' * len(without)}) ELSE detail END"
        detail = less if without else "detail"
        rows = self._query(
            f"SELECT number, time, step, kind, {detail} FROM events WHERE number > ?{only} ORDER BY number LIMIT ?",
            (*(f"$.{name}" for name in without), after, *kinds, -1 if most is None else most),
        )
        return pd.DataFrame([(*row[:4], json.loads(row[4])) for row in rows], columns=["number", "time", "step", "kind", "detail"])

    def event(self, number: int) -> dict[str, Any]:
        """One event's whole detail, by its number. Raises KeyError where there is none."""
        found = self._query("SELECT detail FROM events WHERE number = ?", (number,))
        if not found:
            raise KeyError(f"The run has no event {number} (any more).")
        detail: dict[str, Any] = json.loads(found[0][0])
        return detail

    def _series(self, kind: str) -> dict[str, int]:
        """Numbers of the series of a kind by name, in the order they were first recorded."""
        return dict(self._query("SELECT name, id FROM series WHERE kind = ? ORDER BY id", (kind,)))

    def _reading(self, kind: str, first: int, last: int) -> SeriesReading:
        """Of a kind the latest reading is kept until the store changes: a page asks for one after the other of the same steps."""
        ((version,),) = self._query("PRAGMA data_version")
        kept: dict[str, tuple[tuple[int, int, int], SeriesReading]] = self._local.__dict__.setdefault("readings", {})
        if kind not in kept or kept[kind][0] != (version, first, last):
            kept[kind] = (version, first, last), SeriesReading(self._query, kind, first, last)
        return kept[kind][1]

    def _layouts(self) -> dict[int, list[str]]:
        return {number: json.loads(names) for number, names in self._query("SELECT id, names FROM columns")}

    def _names_of_pairs(self) -> np.ndarray:
        """The pairs' own ids by their number, object [P + 1]. Numbers are given once, so what is known stays."""
        known = self._pair_names
        more = self._query("SELECT pair FROM pairs WHERE id >= ? ORDER BY id", (len(known),))
        if more:
            known = self._pair_names = np.concatenate([known, np.array([pair for (pair,) in more], object)])
        return known

    def _rows_of(self, table: str, steps: Sequence[int]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(steps), 500):
            some = steps[start : start + 500]
            found += self._query(f"SELECT {ROWS} FROM {table} WHERE step IN ({','.join('?' * len(some))}) ORDER BY step", some)
        return found

    def _frame(self, sql: str, values: Sequence[Any]) -> pd.DataFrame:
        with self._moment():
            return frame(blocks(self._query(sql, values)), self._layouts(), self._names_of_pairs())

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """All that is read within is of one moment of the store."""
        connection = self._connection()
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_for_reading(self.folder)
        return connection

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection().execute(sql, values).fetchall()


def _beginning(row: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """The first pairs of a row of `batches`."""
    step, columns, count, *blobs = row
    few = min(count, most)
    return step, columns, few, *(blob[: len(blob) // max(count, 1) * few] for blob in blobs)


def _end(last: int | None) -> int:
    return END if last is None else last


def _by_step(columns: dict[str, tuple[np.ndarray, np.ndarray]], counts: dict[str, int]) -> pd.DataFrame:
    """Series (steps ascending, values) side by side by step."""
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
