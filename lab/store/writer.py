"""The one writer of a run store: a thread that takes what the loop hands it and writes it in batches.

The loop never waits for the disk, and a disk that fails never stops training: the first failure is logged and
kept in `failure`, and what could not be written is counted in `lost`.

Between two batches the same thread keeps the store fit to be read: it packs series (`series.py`), thins old pair terms by the
policy that `thinning.py` states, and empties the log that SQLite writes ahead.
"""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .schema import FILE_NAME, STEPPED, open_for_writing
from .series import LAYER, SCALAR, SeriesWriter
from .thinning import Thinner

log = logging.getLogger(__name__)

KEEP_PAIR_ROWS = 500_000
"""Rows of pair terms that are kept whole, unless another number is asked for."""

WAL_BYTES = 32 * 2**20
"""The log written ahead is emptied at this size, which needs a moment without readers."""

WAL_WAIT = 1000
"""Milliseconds that emptying it waits for readers; training waits for nothing."""

PIECE_SECONDS = 0.05
"""Seconds after which a transaction of packing and thinning is ended."""

CLOSING = 2.0
"""Seconds that a writer goes on packing and thinning when it closes."""

Write = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class TokenRow:
    """Token values of one answer of one pair: ids int32 [T], the others float32 [T]; pilot bool [T] or None."""

    pair: str
    side: str  # "chosen" or "rejected"
    ids: np.ndarray
    logps: np.ndarray
    ref_logps: np.ndarray | None
    credit: np.ndarray
    pilot: np.ndarray | None = None


@dataclass(frozen=True)
class LayerRow:
    """Gradient norms of one layer, split by the side they come from, the cosine between the two, and the norm of the step's update
    over the norm of the weights (NaN where it was not measured)."""

    layer: str
    norm_chosen: float
    norm_rejected: float
    cosine: float
    update_ratio: float = float("nan")


@dataclass(frozen=True)
class PanelRow:
    """What the policy makes of one pair of the panel: the log-probs (nats, summed over the tokens) of its chosen answer, of its
    rejected one, and of the policy's own greedy answer to its prompt; how many tokens each has; and the greedy answer's text.

    ended: the greedy answer ended by itself; else it was cut.
    """

    pair: str
    chosen: float
    rejected: float
    greedy: float
    chosen_tokens: int
    rejected_tokens: int
    greedy_tokens: int
    answer: str
    ended: bool


LAYER_COLUMNS = tuple(column.name for column in fields(LayerRow) if column.name != "layer")
"""What is known of every layer."""


class Listener(Protocol):
    """Somebody else who wants the scalars, such as an experiment tracker. Neither call may raise, nor hold up the loop."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class StoreWriter:
    """Writes one run's store. Open one per run; use it from the loop's thread only.

    listeners: are told all scalars too, and closed with the store.

    token_steps:    token rows are kept for the latest so many steps.
    keep_pair_rows: rows of pair terms that are kept whole; older steps are thinned as `thinning.py` states. 0 keeps all.
    interval:       seconds between two batches; what a reader sees is at most this old.
    """

    def __init__(
        self, folder: Path, *, token_steps: int = 20, keep_pair_rows: int = KEEP_PAIR_ROWS, interval: float = 0.25
    ) -> None:
        self.failure: str | None = None
        self.lost = 0
        self.listeners: list[Listener] = []
        self._token_steps = token_steps
        self._interval = interval
        self._connection = open_for_writing(folder)
        self._wal = folder / f"{FILE_NAME}-wal"
        self._series = SeriesWriter(self._connection)
        self._thinner = Thinner(self._connection, keep_pair_rows)
        self._ids: dict[tuple[str, str], int] = {}
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._written = threading.Condition()
        self._handed = 0
        self._done = 0
        self._thread = threading.Thread(target=self._work, name="run-store-writer", daemon=True)
        self._thread.start()

    # What the loop says.

    def status(self, **values: Any) -> None:
        """Overwrite named facts about the run as a whole: state, step, stage, error, ..."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        self._hand(lambda c: c.executemany("INSERT OR REPLACE INTO status VALUES (?, ?)", rows))

    def event(self, step: int, kind: str, **detail: Any) -> None:
        """Record that something happened at a step: state, edit, warning, checkpoint, request, evaluation, check."""
        row = (time.time(), step, kind, json.dumps(detail, default=str))
        self._hand(lambda c: c.execute("INSERT INTO events (time, step, kind, detail) VALUES (?, ?, ?, ?)", row))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One number per name for a step. NaN and infinities are kept (as NULL for NaN, which SQLite has not)."""
        names, numbers = list(values), [float(value) for value in values.values()]
        self._hand(lambda c: self._series.add(SCALAR, step, [self._series_id(c, SCALAR, name) for name in names], numbers))
        for listener in self.listeners:
            listener.scalars(step, values)

    def pair_terms(self, step: int, pairs: Sequence[str], versions: Sequence[int], terms: Mapping[str, np.ndarray]) -> None:
        """The named numbers of every pair of a step's batch; each array [B]."""
        self._terms("batches", step, pairs, versions, terms)

    def held_out(self, step: int, pairs: Sequence[str], versions: Sequence[int], terms: Mapping[str, np.ndarray]) -> None:
        """The named numbers of the pairs that are never trained on, as a look at `step` found them; each array [N]."""
        self._terms("held_out", step, pairs, versions, terms)

    def _terms(self, table: str, step: int, pairs: Sequence[str], versions: Sequence[int], terms: Mapping[str, np.ndarray]) -> None:
        names = json.dumps(list(terms))
        numbers = np.stack([np.asarray(values, np.float32) for values in terms.values()], axis=1)

        def write(c: sqlite3.Connection) -> None:
            ids = [self._id(c, "pairs", "pair", pair) for pair in pairs]
            blobs = (_blob(np.array(ids), np.int32), _blob(np.array(versions), np.int32), numbers.tobytes())
            columns = self._id(c, "columns", "names", names)
            c.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)", (step, columns, len(ids), *blobs))
            held = int(table == "held_out")
            c.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", [(pair, held, step) for pair in ids])
            if not held:
                self._thinner.note(step, len(ids))

        self._hand(write)

    def tokens(self, step: int, rows: Sequence[TokenRow]) -> None:
        """Token log-probs and credit of a step's pairs; older steps than the latest `token_steps` are dropped."""

        def write(c: sqlite3.Connection) -> None:
            c.executemany(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        step,
                        self._id(c, "pairs", "pair", r.pair),
                        r.side,
                        _blob(r.ids, np.int32),
                        _blob(r.logps, np.float32),
                        _blob(r.ref_logps, np.float32),
                        _blob(r.credit, np.float32),
                        _blob(r.pilot, np.bool_),
                    )
                    for r in rows
                ],
            )
            c.execute("DELETE FROM tokens WHERE step <= ?", (step - self._token_steps,))

        self._hand(write)

    def layers(self, step: int, rows: Sequence[LayerRow]) -> None:
        """Gradient flow by layer at a probed step."""
        columns = LAYER_COLUMNS
        values = [(f"{column} {row.layer}", float(getattr(row, column))) for row in rows for column in columns]

        def write(c: sqlite3.Connection) -> None:
            self._series.add(LAYER, step, [self._series_id(c, LAYER, name) for name, _ in values], [value for _, value in values])

        self._hand(write)

    def panel(self, step: int, rows: Sequence[PanelRow]) -> None:
        """What the policy made of the panel of held-out pairs once `step` steps were done."""

        def write(c: sqlite3.Connection) -> None:
            found = [(step, self._id(c, "pairs", "pair", r.pair), *astuple(r)[1:]) for r in rows]
            c.executemany("INSERT OR REPLACE INTO panel VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", found)

        self._hand(write)

    def forget_after(self, step: int) -> None:
        """Drop every row of a later step, so that a resumed run writes them afresh."""

        def write(c: sqlite3.Connection) -> None:
            for table in STEPPED:
                c.execute(f"DELETE FROM {table} WHERE step > ?", (step,))
            self._series.forget_after(step)
            self._thinner.forget_after(step)
            self._look_again()

        self._hand(write)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was said so far is on disk; False if that took longer than `timeout` seconds."""
        with self._written:
            target = self._handed
            self._wake.set()
            return self._written.wait_for(lambda: self._done >= target, timeout)

    def close(self) -> None:
        """Write what is left, end the thread, close the file."""
        for listener in self.listeners:  # first, because their last words may be warnings
            listener.close()
        self._queue.put(None)
        self._wake.set()
        self._thread.join(timeout=60)
        try:
            self._connection.close()
        except sqlite3.Error as error:  # a full disk, or the thread still writes: what is written stays whole
            log.error("The run store could not be closed (%s); what was written up to now is whole.", error)

    # The thread.

    def _hand(self, write: Callable[[sqlite3.Connection], Any]) -> None:
        with self._written:
            self._handed += 1
        self._queue.put(write)

    def _work(self) -> None:
        ending = False
        while not ending:
            self._wake.wait(self._interval)
            self._wake.clear()
            batch: list[Write] = []
            while not self._queue.empty():
                write = self._queue.get()
                if write is None:
                    ending = True
                else:
                    batch.append(write)
            if batch:
                self._commit(batch)
                with self._written:
                    self._done += len(batch)
                    self._written.notify_all()
            self._tend(CLOSING if ending else self._interval)

    def _tend(self, seconds: float) -> None:
        """Keep the store fit to be read, for so many seconds at most; what is left is done in the next turns, or by the next
        writer. A failure here loses nothing: pieces are whole or absent."""
        try:
            began = time.monotonic()
            for due, work in ((self._series.due, self._series.pack), (self._thinner.due, self._thinner.piece)):
                while due() and time.monotonic() - began < seconds:
                    self._connection.execute("BEGIN IMMEDIATE")
                    until = time.monotonic() + PIECE_SECONDS
                    while work() and time.monotonic() < until:
                        pass
                    self._connection.execute("COMMIT")
            if self._wal.exists() and self._wal.stat().st_size > WAL_BYTES:
                self._connection.execute(f"PRAGMA busy_timeout = {WAL_WAIT}")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._connection.execute("PRAGMA busy_timeout = 30000")
        except Exception as error:
            self._fail(error, "cannot be packed and thinned (%s); it grows, and training goes on")

    def _commit(self, batch: list[Write]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                write(self._connection)
            self._connection.execute("COMMIT")
        except Exception as error:  # whatever the store does, training goes on
            self.lost += len(batch)
            self._fail(error, "cannot be written (%s); training goes on without a record")

    def _fail(self, error: Exception, message: str) -> None:
        """Undo what is half done, and say so once."""
        if self.failure is None:
            log.error(f"The run store {message}.", error)
        self.failure = str(error)
        self._ids.clear()
        try:
            if self._connection.in_transaction:
                self._connection.rollback()
            self._look_again()
        except sqlite3.Error as again:
            self.failure = str(again)

    def _look_again(self) -> None:
        self._series.reset()
        self._thinner.reset()

    def _series_id(self, c: sqlite3.Connection, kind: str, name: str) -> int:
        key = (kind, name)
        if key not in self._ids:
            c.execute("INSERT OR IGNORE INTO series (kind, name) VALUES (?, ?)", key)
            self._ids[key] = c.execute("SELECT id FROM series WHERE kind = ? AND name = ?", key).fetchone()[0]
        return self._ids[key]

    def _id(self, c: sqlite3.Connection, table: str, column: str, value: str) -> int:
        key = (table, value)
        if key not in self._ids:
            c.execute(f"INSERT OR IGNORE INTO {table} ({column}) VALUES (?)", (value,))
            self._ids[key] = c.execute(f"SELECT id FROM {table} WHERE {column} = ?", (value,)).fetchone()[0]
        return self._ids[key]


def _blob(values: np.ndarray | None, kind: Any) -> bytes | None:
    return None if values is None else np.ascontiguousarray(values, kind).tobytes()


class SilentWriter(StoreWriter):
    """Takes everything and writes nothing: for the processes of a run that one other process records."""

    def __init__(self) -> None:
        self.failure, self.lost = None, 0
        self.listeners: list[Listener] = []
        self._token_steps = 0

    def _hand(self, write: Callable[[sqlite3.Connection], Any]) -> None:
        pass

    def flush(self, timeout: float = 30.0) -> bool:
        """Nothing waits."""
        return True

    def close(self) -> None:
        """Nothing is open."""
