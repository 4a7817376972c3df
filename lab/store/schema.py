"""Tables of the run store: one SQLite file per run, with one writer and any number of readers.

Whatever grows with the run is stored in blobs, so that the cost of a read depends on what is returned:

- *Series* (scalars, and the numbers of every layer). `recent` holds new values, one row per call. The writer moves them to
  `packs`: level 0 holds the values, 1,024 per row; level n holds summaries of 64 * 8**(n-1) values each (see `series.py`).
- *Pair terms.* `batches` holds one row per step; `seen` lists the steps of each pair. Old steps are thinned (see `thinning.py`);
  single rows of them that are kept move to `kept`. `snapshots` hold the latest row of every pair at some steps, so that
  `pairs(step)` need not read from the beginning.
- *Held-out pairs* have one row per evaluation, never thinned. *Token values* are kept for the latest steps only.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np

from .folder import NoStoreError


def _plain(number: Any) -> int:
    return int(number)


for _kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
    sqlite3.register_adapter(_kind, _plain)  # a step taken from a data frame; SQLite would store and compare it as a blob

Connection = TypeVar("Connection", bound=sqlite3.Connection)
EventKind: TypeAlias = Literal[
    "branched", "change", "check", "checkpoint", "diagnosis", "edit", "evaluation", "held_out", "notice", "panel", "preflight",
    "reference", "refused", "request", "resumed", "state", "statistics", "warning"
]  # fmt: skip
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
"""Kinds of events in a run's store."""

FILE_NAME = "run.sqlite"
FORMAT = 2

TABLES = """
CREATE TABLE IF NOT EXISTS status (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, time REAL NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_kind ON events (kind, step);
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS recent (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, step INTEGER NOT NULL, series BLOB NOT NULL, numbers BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS recent_by_step ON recent (kind, step);
CREATE TABLE IF NOT EXISTS packs (
    series INTEGER, level INTEGER, number INTEGER, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
    steps BLOB, data BLOB NOT NULL, PRIMARY KEY (series, level, number));
CREATE INDEX IF NOT EXISTS packs_by_step ON packs (series, level, first);
CREATE TABLE IF NOT EXISTS pairs (id INTEGER PRIMARY KEY, pair TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS columns (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS batches (
    step INTEGER PRIMARY KEY, columns INTEGER NOT NULL, count INTEGER NOT NULL,
    pairs BLOB NOT NULL, versions BLOB NOT NULL, terms BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS held_out (
    step INTEGER PRIMARY KEY, columns INTEGER NOT NULL, count INTEGER NOT NULL,
    pairs BLOB NOT NULL, versions BLOB NOT NULL, terms BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen (pair INTEGER, held INTEGER, step INTEGER, PRIMARY KEY (pair, held, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (
    pair INTEGER, step INTEGER, first INTEGER NOT NULL, version INTEGER NOT NULL, columns INTEGER NOT NULL, terms BLOB NOT NULL,
    PRIMARY KEY (pair, step)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_by_step ON kept (step);
CREATE TABLE IF NOT EXISTS thinned (tier INTEGER PRIMARY KEY, upto INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS snapshots (
    step INTEGER PRIMARY KEY, names TEXT NOT NULL, steps BLOB NOT NULL, versions BLOB NOT NULL, columns BLOB NOT NULL,
    terms BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
    step INTEGER, pair INTEGER, side TEXT, ids BLOB NOT NULL, logps BLOB NOT NULL, ref_logps BLOB, credit BLOB NOT NULL, pilot BLOB,
    PRIMARY KEY (step, pair, side)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS panel (
    step INTEGER, pair INTEGER, chosen REAL, rejected REAL, greedy REAL,
    chosen_tokens INTEGER, rejected_tokens INTEGER, greedy_tokens INTEGER, answer TEXT, ended INTEGER,
    PRIMARY KEY (step, pair)) WITHOUT ROWID;
"""

STEPPED = ("events", "recent", "batches", "held_out", "seen", "kept", "snapshots", "tokens", "panel")
"""Tables whose rows belong to a step; resuming from a checkpoint deletes the later rows (and cuts the packs)."""


def open_for_writing(folder: Path) -> sqlite3.Connection:
    """Open the store in a folder for the one writer; create it if needed.

    Raises:
        sqlite3.Error: It cannot be written, or has another format.
    """
    path = folder / FILE_NAME
    if not path.exists():  # so that readers never see a store without tables
        draft = folder / f".{FILE_NAME}.draft"
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft)) as making:
            making.execute("PRAGMA journal_mode=WAL")
            making.executescript(TABLES)
            making.execute(f"PRAGMA user_version={FORMAT}")
        draft.rename(path)
    # mode=rw: a folder deleted meanwhile is an error, where an empty store would be made and then refused for its format.
    uri = f"{path.resolve().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=NORMAL")
    _require_format(connection, folder)
    return connection


class UnchangingConnection(sqlite3.Connection):
    """Connection to a store that nobody writes to, in a folder that this process may not write to."""

    path: Path

    @property
    def outdated(self) -> bool:
        """Whether somebody has begun to write to the store, so that it has to be opened again."""
        return _log_of(self.path).exists()


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """Open the store in a folder read-only.

    SQLite reads a store through two more files in its folder, which it creates where they are missing. Where it may not, and
    nobody writes to the store, the connection is an `UnchangingConnection`.

    Raises:
        NoStoreError: The folder has no store.
        sqlite3.Error: The store cannot be read, or has another format.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise NoStoreError(
            f"{folder} holds no record of a run ({FILE_NAME} is missing): the run has not started, or was deleted; "
            "`python -m lab runs` lists the known runs."
        )
    try:
        connection = _read_only(path, "mode=ro", sqlite3.Connection)
        _require_format(connection, folder)
        return connection
    except sqlite3.OperationalError:
        if _log_of(path).exists():
            raise
    unchanging = _read_only(path, "immutable=1", UnchangingConnection)
    unchanging.path = path
    _require_format(unchanging, folder)
    return unchanging


def _log_of(path: Path) -> Path:
    """The write-ahead log beside a store; it exists while a process has the store open for writing."""
    return path.with_name(f"{path.name}-wal")


def _read_only(path: Path, mode: str, kind: type[Connection]) -> Connection:
    uri = f"{path.resolve().as_uri()}?{mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False, factory=kind)
    connection.execute("PRAGMA query_only=1")
    return connection


def _require_format(connection: sqlite3.Connection, folder: Path) -> None:
    (stored,) = connection.execute("PRAGMA user_version").fetchone()
    if not stored and not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        connection.close()
        raise sqlite3.DatabaseError(f"The record of the run in {folder} ({FILE_NAME}) is empty; restore the file, or train again.")
    if stored != FORMAT:
        connection.close()
        raise sqlite3.DatabaseError(
            f"The run in {folder} was recorded by another version of the lab (its store has format {stored}, this version reads "
            f"{FORMAT}); open it with that version, or train it again."
        )
