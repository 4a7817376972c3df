"""Writer of a run store: a thread that queues what the training loop records and writes it in batches.

The loop never waits for the disk, and a failing disk never stops training: the first failure is logged and kept in `failure`, and
the number of writes that failed in `lost`.

Between two batches the same thread keeps reads fast: it packs series (`series.py`), thins old pair terms (`thinning.py`) and
truncates SQLite's write-ahead log.
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

from .schema import FILE_NAME, STEPPED, EventKind, open_for_writing
from .series import LAYER, SCALAR, SeriesWriter
from .thinning import Thinner

log = logging.getLogger(__name__)

KEEP_PAIR_ROWS = 500_000
"""Default number of rows of pair terms that are kept whole."""

WAL_BYTES = 32 * 2**20
"""The write-ahead log is truncated at this size, which requires a moment without readers."""

WAL_WAIT = 1000
"""Milliseconds that truncating it waits for readers. Training does not wait."""

PIECE_SECONDS = 0.05
"""Seconds after which a transaction of packing and thinning is committed."""

CLOSING = 2.0
"""Seconds that a closing writer may still spend on packing and thinning."""

Write = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class TokenRow:
    """Token values of one answer of one pair: ids int32 [T]; logps, ref_logps (nats) and credit float32 [T]; pilot bool [T]."""

    pair: str
    side: str  # "chosen" or "rejected"
    ids: np.ndarray
    logps: np.ndarray
    ref_logps: np.ndarray | None
    credit: np.ndarray
    pilot: np.ndarray | None = None


@dataclass(frozen=True)
class LayerRow:
    """Gradient of one layer, split into the parts from chosen and rejected answers.

    Attributes:
        layer: Name of the layer.
        norm_chosen: Norm of the part from chosen answers.
        norm_rejected: Norm of the part from rejected answers.
        cosine: Cosine between both parts.
        update_ratio: Norm of the step's update over norm of the weights; NaN if not measured.
    """

    layer: str
    norm_chosen: float
    norm_rejected: float
    cosine: float
    update_ratio: float = float("nan")


@dataclass(frozen=True)
class PanelRow:
    """Scores of one pair of the panel under the current policy.

    Attributes:
        pair: Id of the pair.
        chosen: Log-prob of the chosen answer (nats, summed over its tokens).
        rejected: Log-prob of the rejected answer.
        greedy: Log-prob of the policy's greedy answer to the prompt.
        chosen_tokens: Number of tokens of the chosen answer.
        rejected_tokens: Number of tokens of the rejected answer.
        greedy_tokens: Number of tokens of the greedy answer.
        answer: Text of the greedy answer.
        ended: Whether the greedy answer ended by itself; otherwise it was cut at the length limit.
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
"""Numbers recorded for every layer."""


class Listener(Protocol):
    """Another receiver of the scalars, such as an experiment tracker. Its methods must not raise and must return quickly."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Receive the scalars of a step."""

    def close(self) -> None:
        """Finish; no further calls follow."""


class StoreWriter:
    """Writes the store of one run. Open one per run and use it from the training thread only.

    Args:
        folder: Folder of the run.
        token_steps: Token values are kept for this many of the latest steps.
        keep_pair_rows: Rows of pair terms that are kept whole; older steps are thinned (see `lab.store.thinning`). 0 keeps all.
        interval: Seconds between two batches, and so the delay after which readers see new data.

    Attributes:
        failure: Text of the latest write error, or None.
        lost: Number of writes that failed.
        listeners: Also receive all scalars, and are closed with the store.
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

    # Called by the training loop.

    def status(self, **values: Any) -> None:
        """Set status values of the run: state, step, stage, error, ..."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        self._hand(lambda c: c.executemany("INSERT OR REPLACE INTO status VALUES (?, ?)", rows))

    def event(self, step: int, kind: EventKind, **detail: Any) -> None:
        """Record an event at a step."""
        row = (time.time(), step, kind, json.dumps(detail, default=str))
        self._hand(lambda c: c.execute("INSERT INTO events (time, step, kind, detail) VALUES (?, ?, ?, ?)", row))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record one number per name for a step. NaN and infinities are stored as they are."""
        names, numbers = list(values), [float(value) for value in values.values()]
        self._hand(lambda c: self._series.add(SCALAR, step, [self._series_id(c, SCALAR, name) for name in names], numbers))
        for listener in self.listeners:
            listener.scalars(step, values)

    def pair_terms(self, step: int, pairs: Sequence[str], versions: Sequence[int], terms: Mapping[str, np.ndarray]) -> None:
        """Record the terms of the pairs of a step's batch; each array [B]."""
        self._terms("batches", step, pairs, versions, terms)

    def held_out(self, step: int, pairs: Sequence[str], versions: Sequence[int], terms: Mapping[str, np.ndarray]) -> None:
        """Record the terms of the held-out pairs at an evaluation; each array [N]."""
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
        """Record token values of a step's pairs, and delete those of all but the latest `token_steps` steps."""

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
        """Record the gradient by layer at a probed step."""
        columns = LAYER_COLUMNS
        values = [(f"{column} {row.layer}", float(getattr(row, column))) for row in rows for column in columns]

        def write(c: sqlite3.Connection) -> None:
            self._series.add(LAYER, step, [self._series_id(c, LAYER, name) for name, _ in values], [value for _, value in values])

        self._hand(write)

    def panel(self, step: int, rows: Sequence[PanelRow]) -> None:
        """Record the scores of the panel after `step` steps."""

        def write(c: sqlite3.Connection) -> None:
            values = [(step, self._id(c, "pairs", "pair", r.pair), *astuple(r)[1:]) for r in rows]
            c.executemany("INSERT OR REPLACE INTO panel VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

        self._hand(write)

    def forget_after(self, step: int) -> None:
        """Delete every row of a later step, so that a resumed run can write these steps again."""

        def write(c: sqlite3.Connection) -> None:
            for table in STEPPED:
                c.execute(f"DELETE FROM {table} WHERE step > ?", (step,))
            self._series.forget_after(step)
            self._thinner.forget_after(step)
            self._reset()

        self._hand(write)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything recorded so far is on disk; return False if that took longer than `timeout` seconds."""
        with self._written:
            target = self._handed
            self._wake.set()
            return self._written.wait_for(lambda: self._done >= target, timeout)

    def close(self) -> None:
        """Write what is queued, end the thread and close the file."""
        for listener in self.listeners:  # first, because closing them may record warnings
            listener.close()
        self._queue.put(None)
        self._wake.set()
        self._thread.join(timeout=60)
        try:
            self._connection.close()
        except sqlite3.Error as error:  # the disk is full, or the thread is still writing; the data on disk stays consistent
            log.error("The run store could not be closed (%s); the data written so far is complete.", error)

    # The writing thread.

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
        """Pack, thin and truncate the log for at most `seconds`; the rest follows later. A failure here loses no data."""
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
        except Exception as error:  # training continues whatever the store does
            self._fail(error, "cannot be packed and thinned (%s); training continues, and the store grows faster")

    def _commit(self, batch: list[Write]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                write(self._connection)
            self._connection.execute("COMMIT")
        except Exception as error:  # training continues whatever the store does
            self.lost += len(batch)
            self._fail(error, "cannot be written (%s); training continues, but these steps are not recorded")

    def _fail(self, error: Exception, message: str) -> None:
        """Roll back an unfinished transaction and log the first failure."""
        if self.failure is None:
            log.error(f"The run store {message}.", error)
        self.failure = str(error)
        self._ids.clear()
        try:
            if self._connection.in_transaction:
                self._connection.rollback()
            self._reset()
        except sqlite3.Error as again:
            self.failure = str(again)

    def _reset(self) -> None:
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
    """Writer that discards everything, for the processes of a distributed run that do not record."""

    def __init__(self) -> None:
        self.failure, self.lost = None, 0
        self.listeners: list[Listener] = []
        self._token_steps = 0

    def _hand(self, write: Callable[[sqlite3.Connection], Any]) -> None:
        pass

    def flush(self, timeout: float = 30.0) -> bool:
        """Return True: there is nothing to wait for."""
        return True

    def close(self) -> None:
        """Do nothing: no file is open."""
