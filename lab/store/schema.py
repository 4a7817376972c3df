"""The run store's tables: one SQLite file a run, written by one writer, read by anybody.

What grows with the run lies in blobs, so that reading costs what is asked for and not what was written:

- *Series* (scalars, and the numbers of every layer). New values lie in `recent`, one row a call. The writer moves them into
  `packs`: level 0 holds the values themselves, 1,024 a row; level n holds what 64 * 8**(n-1) values came to (see `series.py`).
- *Pair terms.* `batches` holds one row a step; `seen` says at which steps a pair was met. Old steps are thinned (see
  `thinning.py` for the policy), and single rows worth keeping go from there to `kept`. `snapshots` hold every pair's latest row
  as it was at some steps, so that `pairs(step)` need not go back to the beginning.
- *Held-out looks* are kept whole, one row a look. Token values are kept for the latest steps only.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

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
"""The tables whose rows belong to a step; resuming from a checkpoint forgets the rows after it (and cuts the packs)."""


def open_for_writing(folder: Path) -> sqlite3.Connection:
    """The store in `folder`, made if it is not there, for the one writer.

    Raises sqlite3.Error if it cannot be written, or was written by another version of the lab.
    """
    path = folder / FILE_NAME
    if not path.exists():  # a reader must never meet a store without its tables
        draft = folder / f".{FILE_NAME}.draft"
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft)) as making:
            making.execute("PRAGMA journal_mode=WAL")
            making.executescript(TABLES)
            making.execute(f"PRAGMA user_version={FORMAT}")
        draft.rename(path)
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=NORMAL")
    _require_format(connection, folder)
    return connection


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises FileNotFoundError where there is no store, sqlite3.Error where another version of
    the lab wrote it."""
    path = folder / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no run ({FILE_NAME} is missing); give the folder of a run.")
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only=1")
    _require_format(connection, folder)
    return connection


def _require_format(connection: sqlite3.Connection, folder: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        connection.close()
        raise sqlite3.DatabaseError(
            f"The run in {folder} was recorded by another version of the lab (its store has format {found}, this one reads "
            f"{FORMAT}); look at it with that version, or train it anew."
        )
