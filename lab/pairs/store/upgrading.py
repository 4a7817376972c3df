"""Stores of the lab's first format become stores of the present one: every version, log entry and number stays."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import update

from lab import home
from lab.pairs.pair import Pair

from . import log, schema
from .building import APPLICATION_ID, build_file
from .database import Database
from .log import REDONE, UNDONE, Change, Signature

FIRST = 0
"""`PRAGMA user_version` of the first format, which did not set it."""
PAIR = """SELECT p.position, p.id, v.prompt, v.chosen, v.rejected, v.dropped, p.meta FROM pairs p
    JOIN versions v ON v.position = p.position AND v.version = ? """


def is_first_format(path: Path) -> bool:
    """Return whether a file is a store of the first format."""
    try:
        with closing(_connect(path)) as db:
            marks = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False  # whatever it is, opening it says so
    return marks == [APPLICATION_ID, FIRST] and {"about", "pairs", "versions", "log"} <= tables


def upgrade(path: Path) -> None:
    """Replace a store of the first format; the old file stays beside it, with ".format-1" added to its name.

    Raises:
        PairsError: The folder cannot be written.
    """
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # one process upgrades, the others wait
        if not is_first_format(path):
            return
        with closing(_connect(path)) as old:
            old.execute("BEGIN IMMEDIATE")
            about = dict(old.execute("SELECT key, value FROM about").fetchall())
            with build_file(path, _first_versions(old), about["name"], about["source"]) as file:
                database = Database(file)
                with database.writing() as db:
                    _repeat(old, db)
                database.close()
                old.close()  # its journal has this name too, and is removed now
                path.rename(path.with_name(f"{path.name}.format-1"))
                file.rename(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=60, isolation_level=None)
    db.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    return db


def _pair(row: tuple[Any, ...]) -> Pair:
    _, id, prompt, chosen, rejected, dropped, meta = row
    return Pair(id, json.loads(prompt), chosen, rejected, 1, bool(dropped), json.loads(meta))


def _first_versions(old: sqlite3.Connection) -> Iterator[Pair]:
    yield from map(_pair, old.execute(PAIR + "ORDER BY p.position", (1,)))


def _repeat(old: sqlite3.Connection, db: Any) -> None:
    """Record every edit of the old log again, in the name of this person: the first format knew no authors."""
    author = home.author()
    origins: dict[tuple[int, int], int] = {}
    done: list[tuple[int, int, int, int]] = []
    undone: list[tuple[int, int, int, int]] = []
    entries = "SELECT number, time, position, action, before, after FROM log ORDER BY number"
    for number, at, position, action, before, after in old.execute(entries).fetchall():
        row = old.execute(PAIR + "WHERE p.position = ?", (after, position)).fetchone()
        (item,) = log.stored(db, [row[1]])
        entry, of, origin = (number, position, before, after), None, None
        if action in (UNDONE, REDONE):
            take, give = (done, undone) if action == UNDONE else (undone, done)
            entry = take.pop()
            give.append(entry)
            of, source = entry[0], entry[2] if action == UNDONE else entry[3]
            origin = origins.get((position, source), source)
            origins[position, after] = origin
        else:
            done.append(entry)
            undone.clear()
        change = Change(item, replace(_pair(row), version=before), origin)
        log.record(db, [change], Signature(author, action), of=of)
        db.execute(update(schema.edits).where(schema.edits.c.number == number).values(time=at))
