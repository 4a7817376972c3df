"""Pair sets that a folder of stores lists, by name: what they are called, how many pairs they have, when they last changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .addresses import known_addresses
from .pair import PairsError
from .store.counts import PAIRS
from .store.records import unescape

READING_SECONDS = 0.2
"""Longest time that the listing waits for a store that is locked."""
MOST_NAMED = 5
"""Sets of one name that a message lists."""


@dataclass(frozen=True)
class KnownSet:
    """A pair set that a folder of stores lists.

    file:     File that lists it: its SQLite file, or the file with the address of its database.
    location: What `PairStore` opens: the path of the file, or the address.
    name:     Name of the set; of a database, and of a file that cannot be read, the name of the file that lists it.
    source:   What it was imported from; empty where that is unknown.
    pairs:    Number of pairs that are not dropped; None of a database, which is not asked, and of a file that cannot be read.
    changed:  Time of the last change in seconds since 1970; without changes, that of the file.
    """

    file: Path
    location: str
    name: str
    source: str
    pairs: int | None
    changed: float


def known_sets(folder: Path) -> list[KnownSet]:
    """Return the sets that a folder of stores lists, the latest change first. No store is opened for writing or counted through."""
    sets = [read_set(file) for file in folder.glob("*.sqlite")]
    for file, address in known_addresses(folder).items():
        sets.append(KnownSet(file, address, _name_of_file(file), address, None, file.stat().st_mtime))
    return sorted(sets, key=lambda known: known.changed, reverse=True)


def find_set(folder: Path, name: str) -> KnownSet | None:
    """Return the set of a name, or of the name of its file with or without the ending; None if there is none.

    Raises:
        PairsError: Several sets have this name.
    """
    sets = known_sets(folder)
    if by_file := next((known for known in sets if name in (known.file.name, known.file.stem)), None):
        return by_file
    named = [known for known in sets if known.name == name]
    if len(named) > 1:
        listed = "; ".join(f"{known.file.name} (from {known.source})" for known in named[:MOST_NAMED])
        more = f"; and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        raise PairsError(f"{len(named)} pair sets are named {name!r}: {listed}{more}. Give the name of a file.")
    return named[0] if named else None


def read_set(file: Path) -> KnownSet:
    """Return what is known of the set in an SQLite file."""
    try:
        parts = [part.stat() for part in (file, file.with_name(f"{file.name}-wal")) if part.exists()]
        return _read(file, tuple((part.st_mtime_ns, part.st_size, part.st_ino) for part in parts))
    except (sqlite3.Error, OSError, ValueError, KeyError):  # of an earlier format, damaged, or gone: `PairStore` says what is wrong
        return KnownSet(file, str(file), _name_of_file(file), "", None, file.stat().st_mtime if file.exists() else 0.0)


@lru_cache(maxsize=1000)
def _read(file: Path, stamps: tuple[tuple[int, int, int], ...]) -> KnownSet:
    """Read a set from its file and log, which have these times, sizes and inodes; an error is raised and not kept."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=READING_SECONDS)) as db:
        about = dict(db.execute("SELECT key, value FROM about WHERE key IN ('name', 'source')").fetchall())
        pairs = db.execute("SELECT sum(count) FROM counts WHERE name = ? AND dropped = 0", (PAIRS,)).fetchone()[0]
        edit = db.execute("SELECT time FROM edits ORDER BY number DESC LIMIT 1").fetchone()
    changed = float(edit[0]) if edit else max(modified for modified, _, _ in stamps) / 1e9
    return KnownSet(file, str(file), unescape(about["name"]), unescape(about["source"]), int(pairs or 0), changed)


def _name_of_file(file: Path) -> str:
    """Return the name of a store's file without its hash."""
    stem, dash, tail = file.stem.rpartition("-")
    return stem if dash and len(tail) == 12 and not set(tail) - set("0123456789abcdef") else file.stem
