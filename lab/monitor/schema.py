"""The run store's tables: one SQLite file a run, written by one writer, read by anybody.

Pair terms and token credit are blobs of float32, one row a pair and step: a row per number would be 20 times the file.
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
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS scalars (series INTEGER, step INTEGER, value REAL, PRIMARY KEY (series, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pairs (id INTEGER PRIMARY KEY, pair TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS columns (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS pair_terms (
    step INTEGER, pair INTEGER, version INTEGER NOT NULL, columns INTEGER NOT NULL, terms BLOB NOT NULL,
    PRIMARY KEY (step, pair)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pair_history ON pair_terms (pair, step);
CREATE TABLE IF NOT EXISTS held_out (
    step INTEGER, pair INTEGER, version INTEGER NOT NULL, columns INTEGER NOT NULL, terms BLOB NOT NULL,
    PRIMARY KEY (step, pair)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    step INTEGER, pair INTEGER, side TEXT, ids BLOB NOT NULL, logps BLOB NOT NULL, ref_logps BLOB, credit BLOB NOT NULL, pilot BLOB,
    PRIMARY KEY (step, pair, side)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers (
    step INTEGER, layer TEXT, norm_chosen REAL, norm_rejected REAL, cosine REAL, update_ratio REAL,
    PRIMARY KEY (step, layer)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS panel (
    step INTEGER, pair INTEGER, chosen REAL, rejected REAL, greedy REAL,
    chosen_tokens INTEGER, rejected_tokens INTEGER, greedy_tokens INTEGER, answer TEXT, ended INTEGER,
    PRIMARY KEY (step, pair)) WITHOUT ROWID;
"""

STEPPED = ("events", "scalars", "pair_terms", "held_out", "tokens", "layers", "panel")
"""The tables whose rows belong to a step; resuming from a checkpoint forgets the rows after it."""


def open_for_writing(folder: Path) -> sqlite3.Connection:
    """The store in `folder`, made if it is not there, for the one writer. Raises sqlite3.Error if it cannot be written."""
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
    return connection


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises FileNotFoundError where there is no store."""
    path = folder / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no run ({FILE_NAME} is missing); give the folder of a run.")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10, check_same_thread=False)
    connection.execute("PRAGMA query_only=1")
    return connection
