"""Stores of the first format are upgraded with every version and edit."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lab.pairs import PairQuery, PairStore, pairs_from_rows

PAIRS = pairs_from_rows([{"prompt": f"p{n}", "chosen": f"a{n}\ud800", "rejected": f"b{n}\x00", "row": n} for n in range(3)])
FIRST_FORMAT = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pairs (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, dropped INTEGER NOT NULL,
    edited INTEGER NOT NULL, touched INTEGER NOT NULL, meta TEXT NOT NULL);
CREATE TABLE versions (position INTEGER NOT NULL, version INTEGER NOT NULL, prompt TEXT NOT NULL, chosen TEXT NOT NULL,
    rejected TEXT NOT NULL, dropped INTEGER NOT NULL, UNIQUE (position, version));
CREATE TABLE log (number INTEGER PRIMARY KEY, time REAL NOT NULL, position INTEGER NOT NULL, action TEXT NOT NULL,
    before INTEGER NOT NULL, after INTEGER NOT NULL);
PRAGMA application_id = 1346455890;
PRAGMA journal_mode = WAL;
"""


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in which pair 0 was edited, pair 1 dropped, and the drop undone."""
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(FIRST_FORMAT)
        db.executemany("INSERT INTO about VALUES (?, ?)", [("name", "eggs"), ("source", "a book")])
        store = "INSERT INTO versions VALUES (?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?)"
        for position, pair in enumerate(PAIRS):
            db.execute("INSERT INTO pairs VALUES (?, ?, 1, 0, 0, 0, ?)", (position, pair.id, json.dumps(pair.meta)))
            db.execute(store, (position, 1, raw(json.dumps(pair.prompt)), raw(pair.chosen), raw(pair.rejected), 0))
        versions = [(0, 2, '"p0"', b"edited", b"b0", 0)]
        versions += [(1, n, '"p1"', raw(PAIRS[1].chosen), raw(PAIRS[1].rejected), 3 - n) for n in (2, 3)]
        db.executemany(store, versions)
        db.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)",
            [(1, 10.5, 0, "edit", 1, 2), (2, 11.5, 1, "drop", 1, 2), (3, 12.5, 1, "undo", 2, 3)],
        )
        db.executemany("UPDATE pairs SET version = ?, edited = ?, touched = ? WHERE position = ?", [(2, 1, 1, 0), (3, 0, 3, 1)])
    return path


def test_an_old_store_is_upgraded_whole(path: Path) -> None:
    store = PairStore(path)
    assert (store.name, store.source, store.version, len(store)) == ("eggs", "a book", 3, 3)
    assert store.all(0) == PAIRS
    edited = replace(PAIRS[0], chosen="edited", rejected="b0", version=2)
    assert store.all() == [edited, replace(PAIRS[1], version=3), PAIRS[2]]
    log = [(edit.number, edit.time, edit.pair_id, edit.action, edit.before, edit.after) for edit in store.log()]
    ids = [pair.id for pair in PAIRS]
    assert log == [(1, 10.5, ids[0], "edit", 1, 2), (2, 11.5, ids[1], "drop", 1, 2), (3, 12.5, ids[1], "undo", 2, 3)]
    assert store.matching(PairQuery("EDITED")) == store.matching(PairQuery(state="edited")) == ids[:1]
    assert store.redo().pair_id == ids[1]
    assert store.undo().pair_id == ids[1]
    assert store.undo().pair_id == ids[0]
    assert [replace(pair, version=1) for pair in store] == PAIRS
    assert sorted(file.name for file in path.parent.glob("old*")) == [
        "old.sqlite",
        "old.sqlite-shm",
        "old.sqlite-wal",
        "old.sqlite.format-1",
    ]
    assert len(PairStore(path)) == 3
