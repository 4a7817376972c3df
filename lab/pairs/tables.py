"""SQL tables of a `PairStore`: creation, reading and writing of pairs and edits.

`pairs` has each pair's current version number, `versions` every version, `log` every edit, `folded` the case-folded texts for the
search, `about` the set's name and source.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .pair import Pair, PairsError, to_bytes, to_json, validate

APPLICATION_ID = 0x50414952  # "PAIR", in the file's header
BUSY_SECONDS = 30.0
BUILDING = ".building"
"""Suffix of a file that is being filled."""

SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pairs (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, dropped INTEGER NOT NULL,
    edited INTEGER NOT NULL,  -- the content differs from version 1
    touched INTEGER NOT NULL, -- number of the latest log entry, 0 if none
    meta TEXT NOT NULL);
CREATE TABLE versions (
    position INTEGER NOT NULL, version INTEGER NOT NULL, prompt TEXT NOT NULL, chosen TEXT NOT NULL,
    rejected TEXT NOT NULL, dropped INTEGER NOT NULL, UNIQUE (position, version));
CREATE TABLE log (
    number INTEGER PRIMARY KEY, time REAL NOT NULL, position INTEGER NOT NULL, action TEXT NOT NULL,
    before INTEGER NOT NULL, after INTEGER NOT NULL);
CREATE TABLE folded (position INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE INDEX pairs_in_order ON pairs (dropped, position, id);
CREATE INDEX pairs_by_edit ON pairs (dropped, touched DESC, position);
CREATE INDEX pairs_edited ON pairs (edited, dropped, position);
CREATE INDEX log_of_pair ON log (position, number);
"""

PAIR = """SELECT p.id, v.prompt, v.chosen, v.rejected, v.version, v.dropped, p.meta
    FROM pairs p JOIN versions v ON v.position = p.position """


@dataclass(frozen=True)
class Edit:
    """One entry of the edit log.

    number: From 1, without gaps.
    time:   Unix seconds.
    action: "edit", "swap", "drop", "restore", "undo" or "redo".
    before, after: Version numbers of the pair.
    """

    number: int
    time: float
    pair_id: str
    action: str
    before: int
    after: int


def connect(path: Path) -> sqlite3.Connection:
    """Connect to an existing file, waiting for other writers.

    The connection is for one thread; another thread may only close it.
    """
    db = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    return db


# Texts are bound as bytes with CAST(? AS TEXT): lone surrogates are kept, and other tools still read the column as text.


def build(path: Path, pairs: Iterable[Pair], metadata: dict[str, str]) -> None:
    """Write all tables into a new file, without a journal: after an error the caller removes the file.

    Raises PairsError for an invalid pair or a repeated id.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.executescript(SCHEMA)
        db.execute("BEGIN")
        for key, value in metadata.items():
            db.execute("INSERT INTO about VALUES (?, CAST(? AS TEXT))", (key, to_bytes(value)))
        seen: set[str] = set()
        for position, given in enumerate(pairs):
            pair = replace(given, version=1)
            _check(pair, position, seen)
            row = (position, pair.id, pair.dropped, _meta(pair))
            db.execute("INSERT INTO pairs VALUES (?, ?, 1, ?, 0, 0, CAST(? AS TEXT))", row)
            db.execute("INSERT INTO folded VALUES (?, ?)", (position, folded(pair)))
            add_version(db, position, pair)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _check(pair: Pair, position: int, seen: set[str]) -> None:
    try:
        validate(*pair.content)
    except PairsError as error:
        raise PairsError(f"Pair {position + 1} ({pair.id}): {error}") from None
    if pair.id in seen:
        raise PairsError(f"Pair {position + 1} has the id {pair.id} of an earlier pair; give every pair its own id.")
    seen.add(pair.id)


def _meta(pair: Pair) -> bytes:
    try:
        return to_bytes(to_json(pair.meta))
    except (TypeError, ValueError) as error:
        raise PairsError(f"The meta of pair {pair.id} is not JSON ({error}); leave such values out.") from None


def publish(building: Path, path: Path) -> None:
    """Give a complete file its final name, unless another process was faster; then its file stays."""
    try:
        os.link(building, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            building.rename(path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` to fill and `publish`; removed at the end. It is locked, so that `sweep` keeps it."""
    while True:
        file = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:12]}{BUILDING}")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        with suppress(OSError):  # a file system without locks: `sweep` then removes nothing
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if file.exists():  # otherwise it was swept before it was locked
            break
        os.close(descriptor)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def sweep(path: Path) -> None:
    """Remove unfinished files that killed processes left beside `path`: those that no process has locked."""
    for leftover in path.parent.glob(f".{path.name}.*{BUILDING}"):
        try:
            descriptor = os.open(leftover, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            for part in ("", "-journal", "-wal", "-shm"):
                leftover.with_name(leftover.name + part).unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def add_version(db: sqlite3.Connection, position: int, pair: Pair) -> None:
    """Store a pair's content under its version number."""
    texts = (to_bytes(to_json(pair.prompt)), to_bytes(pair.chosen), to_bytes(pair.rejected))
    query = "INSERT INTO versions VALUES (?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?)"
    db.execute(query, (position, pair.version, *texts, pair.dropped))


def folded(pair: Pair) -> bytes:
    """Return the case-folded texts of a pair for the search, separated by a byte that UTF-8 does not use."""
    turns = [pair.prompt] if isinstance(pair.prompt, str) else [message["content"] for message in pair.prompt]
    return b"\xff".join(to_bytes(text.casefold()) for text in (*turns, pair.chosen, pair.rejected))


def read_pair(row: tuple[Any, ...]) -> Pair:
    """Convert a row of the query PAIR."""
    id, prompt, chosen, rejected, version, dropped, meta = row
    return Pair(id, json.loads(prompt), chosen, rejected, version, bool(dropped), json.loads(meta))


def get(db: sqlite3.Connection, id: str, version: int | None = None) -> Pair:
    """Return one pair in its current or the given version. Raises PairsError if there is none."""
    row = db.execute(PAIR + "AND v.version = coalesce(?, p.version) WHERE p.id = ?", (version, id)).fetchone()
    if row is None:
        known = db.execute("SELECT version FROM pairs WHERE id = ?", (id,)).fetchone()
        raise PairsError(f"The pair {id} has no version {version}; choose one from 1 to {known[0]}." if known else unknown(id))
    return read_pair(row)


def unknown(id: str) -> str:
    """Return the message for an unknown id."""
    return f"There is no pair {id!r} in this set; use one of its ids()."


def latest(db: sqlite3.Connection) -> int:
    """Return the number of the latest log entry, or 0."""
    return int(db.execute("SELECT coalesce(max(number), 0) FROM log").fetchone()[0])


def log(db: sqlite3.Connection, since: int = 0) -> list[Edit]:
    """Return the edits with numbers above `since`, oldest first."""
    query = "SELECT number, time, id, action, before, after FROM log JOIN pairs USING (position) WHERE number > ? ORDER BY number"
    return [Edit(*row) for row in db.execute(query, (since,))]


def append(db: sqlite3.Connection, before: Pair, content: Pair, action: str) -> Edit:
    """Store `content` as the version after the current one, `before`, and log it; call it in a write transaction."""
    position = db.execute("SELECT position FROM pairs WHERE id = ?", (before.id,)).fetchone()[0]
    after = replace(content, version=before.version + 1)
    edit = Edit(latest(db) + 1, time.time(), before.id, action, before.version, after.version)
    edited = after.content != get(db, before.id, 1).content
    add_version(db, position, after)
    db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", (edit.number, edit.time, position, action, edit.before, edit.after))
    db.execute("UPDATE folded SET text = ? WHERE position = ?", (folded(after), position))
    db.execute(
        "UPDATE pairs SET version = ?, dropped = ?, edited = ?, touched = ? WHERE position = ?",
        (after.version, after.dropped, edited, edit.number, position),
    )
    return edit


def undo_stacks(entries: Iterable[Edit]) -> tuple[list[Edit], list[Edit]]:
    """Return (edits in effect, undone edits), with the next to undo or redo last; a new edit clears the undone ones."""
    done: list[Edit] = []
    undone: list[Edit] = []
    for entry in entries:
        if entry.action == "undo":
            undone.append(done.pop())
        elif entry.action == "redo":
            done.append(undone.pop())
        else:
            done.append(entry)
            undone.clear()
    return done, undone
