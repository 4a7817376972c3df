"""The tables behind a `PairStore`: how they are built, and how pairs and edits are read from and added to them.

`pairs` holds each pair's current version number, `versions` every version there ever was, `log` every edit, `folded`
the case-folded texts for the search, `manifest` the set's name and source.
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
"""Ends the name of a file that is being filled."""

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
    """One line of the edit log.

    number: from 1, without gaps; time: Unix seconds; action: "edit", "swap", "drop", "restore", "undo" or "redo";
    before, after: version numbers of the pair.
    """

    number: int
    time: float
    pair_id: str
    action: str
    before: int
    after: int


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that exists; it waits for other writers and never creates a file. For one thread at a time: another
    one may do no more than close it."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    return db


# Texts go in as bytes with CAST(? AS TEXT), which keeps them as they are: so lone surrogates survive, and other tools
# can still read the column as text.


def build(path: Path, pairs: Iterable[Pair], about: dict[str, str]) -> None:
    """Writes a complete set of tables into a new file. No journal: whoever calls this throws a broken file away.

    Raises PairsError for a pair that is not valid or an id that occurs twice.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.executescript(SCHEMA)
        db.execute("BEGIN")
        for key, value in about.items():
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
    """Gives a complete file its name, unless another process was faster: then theirs stays."""
    try:
        os.link(building, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            building.rename(path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path` to be filled and published, removed afterwards. Locked meanwhile, so that `sweep` leaves it."""
    while True:
        file = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:12]}{BUILDING}")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        with suppress(OSError):  # a file system without locks: `sweep` then removes nothing
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if file.exists():  # else it was swept before it was locked
            break
        os.close(descriptor)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def sweep(path: Path) -> None:
    """Removes what killed processes left behind while they built `path`: what no process holds locked, whatever the clock says."""
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
    """Stores a pair's content under its version number, for good."""
    texts = (to_bytes(to_json(pair.prompt)), to_bytes(pair.chosen), to_bytes(pair.rejected))
    query = "INSERT INTO versions VALUES (?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?)"
    db.execute(query, (position, pair.version, *texts, pair.dropped))


def folded(pair: Pair) -> bytes:
    """The texts for a search in either case, separated by a byte that no UTF-8 text has."""
    turns = [pair.prompt] if isinstance(pair.prompt, str) else [message["content"] for message in pair.prompt]
    return b"\xff".join(to_bytes(text.casefold()) for text in (*turns, pair.chosen, pair.rejected))


def read_pair(row: tuple[Any, ...]) -> Pair:
    """A row of the query PAIR."""
    id, prompt, chosen, rejected, version, dropped, meta = row
    return Pair(id, json.loads(prompt), chosen, rejected, version, bool(dropped), json.loads(meta))


def get(db: sqlite3.Connection, id: str, version: int | None = None) -> Pair:
    """One pair in its current or a named version. Raises PairsError if there is none."""
    row = db.execute(PAIR + "AND v.version = coalesce(?, p.version) WHERE p.id = ?", (version, id)).fetchone()
    if row is None:
        known = db.execute("SELECT version FROM pairs WHERE id = ?", (id,)).fetchone()
        raise PairsError(f"The pair {id} has no version {version}; choose one from 1 to {known[0]}." if known else unknown(id))
    return read_pair(row)


def unknown(id: str) -> str:
    return f"There is no pair {id!r} in this set; use one of its ids()."


def latest(db: sqlite3.Connection) -> int:
    """Number of the latest log entry, or 0."""
    return db.execute("SELECT coalesce(max(number), 0) FROM log").fetchone()[0]


def log(db: sqlite3.Connection, since: int = 0) -> list[Edit]:
    """Edits with numbers above `since`, oldest first."""
    query = "SELECT number, time, id, action, before, after FROM log JOIN pairs USING (position) WHERE number > ? ORDER BY number"
    return [Edit(*row) for row in db.execute(query, (since,))]


def append(db: sqlite3.Connection, before: Pair, content: Pair, action: str) -> Edit:
    """Stores `content` as the version that follows the current one, `before`, and logs it. Call it in a write transaction."""
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
    """The edits in effect and the undone ones, each with the next to undo or redo at its end. A fresh edit forgets the
    undone ones."""
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
