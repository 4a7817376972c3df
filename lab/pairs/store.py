"""A set of preference pairs in one SQLite file: every edit makes a new version, and no version is ever overwritten.

Threads and processes may share a file: SQLite's write-ahead log lets readers go on while one writes, and every writer
takes the lock before it reads what it changes, so no edit is lost.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from . import tables
from .pair import Pair, PairsError, Prompt, to_bytes, validate
from .pair_export import write_pairs
from .tables import PAIR, Edit, read_pair

Only = Literal["all", "edited", "dropped"]
Order = Literal["position", "recent"]
FILTERS = {"all": "dropped = 0", "edited": "edited = 1 AND dropped = 0", "dropped": "dropped = 1"}
COMMON_BYTES = b"zqxjkvbpygfwmucldrhsinoate "  # of English text, the most common last
FEW = 100
ORDERS = {"position": "position", "recent": "touched DESC, position"}


class PairStore:
    """Preference pairs with versions, drops, undo and search. `PairStore.create` makes a new one.

    Every method may be called from any thread. Raises PairsError where `path` is no store of pairs. Files are closed when nobody
    holds the store any more, or by `close`, or at the end of a `with`.
    """

    name: str
    """What people call the set."""
    source: str
    """Where the pairs came from."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self._local, self._open, self._closed = threading.local(), weakref.WeakSet[_Connection](), 0
        self._found: tuple[tuple[object, ...], list[int]] = ((), [])
        if not self.path.is_file():
            raise PairsError(f"There is no file {path}; check the path of the stored pairs.")
        with self._transaction("BEGIN", f"{path} is not a store of pairs") as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != tables.APPLICATION_ID:
                raise PairsError(f"{path} is a database of something else; give a store of pairs.")
            about = dict(db.execute("SELECT key, value FROM about").fetchall())
        self.name, self.source = about["name"], about["source"]

    @classmethod
    def create(cls, path: str | Path, pairs: Iterable[Pair], *, name: str, source: str) -> PairStore:
        """A new store of these pairs, each as its version 1; if `path` exists already, that store is opened as it is.

        All or nothing: the file appears under its name only when it is complete. Raises PairsError for pairs that are
        not valid or share an id, and where the file cannot be written.
        """
        path = Path(path).expanduser().absolute()
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                tables.sweep(path)
                with tables.new_file(path) as building:
                    tables.build(building, pairs, {"name": name, "source": source})
                    tables.publish(building, path)
            except (sqlite3.Error, OSError) as error:
                raise PairsError(f"The pairs could not be stored at {path} ({error}); check the folder and the disk.") from error
        return cls(path)

    def close(self) -> None:
        """Close the file in every thread; nobody may be in the middle of anything. What is asked later opens it again."""
        self._closed += 1
        for held in list(self._open):
            if held.process == os.getpid():  # of what a fork has copied the file belongs to the other process
                held.db.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading

    def __len__(self) -> int:
        """Pairs that are not dropped."""
        return self._rows("SELECT count(*) FROM pairs WHERE dropped = 0")[0][0]

    def __repr__(self) -> str:
        return f"PairStore({str(self.path)!r}: {len(self)} pairs, version {self.version})"

    @property
    def version(self) -> int:
        """Number of the latest log entry, 0 if nothing was ever edited; it names a state of the whole set."""
        with self._reading() as db:
            return tables.latest(db)

    def ids(self) -> list[str]:
        """Ids of the pairs that are not dropped, in order."""
        return [row[0] for row in self._rows("SELECT id FROM pairs WHERE dropped = 0 ORDER BY position")]

    def get(self, id: str, version: int | None = None) -> Pair:
        """One pair, dropped or not; its current version unless another is named. Raises PairsError if there is none."""
        with self._reading() as db:
            return tables.get(db, id, version)

    def all(self, version: int | None = None) -> list[Pair]:
        """Every pair that is not dropped, in order, as the set was after log entry `version` (now, if None).

        Raises PairsError for a version that the set has not reached.
        """
        if version is None:
            return [
                read_pair(row) for row in self._rows(PAIR + "AND v.version = p.version WHERE p.dropped = 0 ORDER BY p.position")
            ]
        now = self.version
        if not 0 <= version <= now:
            raise PairsError(f"{self.name} has no version {version}; choose one from 0 to {now}.")
        then = """AND v.version = coalesce((SELECT after FROM log WHERE log.position = p.position AND number <= ?
            ORDER BY number DESC LIMIT 1), 1) WHERE v.dropped = 0 ORDER BY p.position"""
        return [read_pair(row) for row in self._rows(PAIR + then, version)]

    def page(
        self, offset: int, limit: int, *, search: str = "", only: Only = "all", order: Order = "position"
    ) -> tuple[list[Pair], int]:
        """`limit` pairs from number `offset` (from 0) of those that match, and how many match in all.

        search: this text, in either case, in a prompt or an answer; only: "all" (not dropped), "edited" (not dropped and
        different from the import) or "dropped"; order: "position" or "recent" (latest edit first).
        Raises PairsError for any other value.
        """
        if only not in FILTERS or order not in ORDERS:
            raise PairsError(f"There is no page of {only!r} by {order!r}; use {', '.join(FILTERS)} by {' or '.join(ORDERS)}.")
        if offset < 0 or limit < 0:
            raise PairsError(f"A page cannot start at {offset} or hold {limit} pairs; give numbers from 0.")
        where, by = FILTERS[only], ORDERS[order]
        with self._reading() as db:
            if search:
                found = self._search(db, search, where, by)
                total, positions = len(found), found[offset : offset + limit]
            else:
                total = db.execute(f"SELECT count(*) FROM pairs WHERE {where}").fetchone()[0]
                query = f"SELECT position FROM pairs WHERE {where} ORDER BY {by} LIMIT ? OFFSET ?"
                positions = [row[0] for row in db.execute(query, (limit, offset))]
            query = PAIR + "AND v.version = p.version WHERE p.position = ?"
            return [read_pair(db.execute(query, (position,)).fetchone()) for position in positions], total

    def find(self, search: str) -> list[str]:
        """Ids of all pairs, dropped or not, with this text, in either case, in a prompt or an answer; in order."""
        if not search:
            return [row[0] for row in self._rows("SELECT id FROM pairs ORDER BY position")]
        with self._reading() as db:
            found = self._search(db, search, "1", "position")
            if len(found) > FEW:  # one look at all of them is faster than many at one
                ids = dict(db.execute("SELECT position, id FROM pairs").fetchall())
                return [ids[position] for position in found]
            return [db.execute("SELECT id FROM pairs WHERE position = ?", (position,)).fetchone()[0] for position in found]

    def history(self, id: str) -> list[Pair]:
        """Every version of a pair, oldest first. Raises PairsError for an unknown id."""
        rows = self._rows(PAIR + "WHERE p.id = ? ORDER BY v.version", id)
        if not rows:
            raise PairsError(tables.unknown(id))
        return [read_pair(row) for row in rows]

    def log(self, since: int = 0) -> list[Edit]:
        """The edits with numbers above `since`, oldest first."""
        with self._reading() as db:
            return tables.log(db, since)

    def export(self, path: str | Path) -> int:
        """Writes the current pairs in TRL's explicit format, as JSON Lines (.jsonl) or Parquet (.parquet).

        Returns how many were written. The file appears complete or not at all. Raises PairsError if it cannot be written.
        """
        pairs = self.all()
        write_pairs(pairs, Path(path))
        return len(pairs)

    # Changing

    def edit(
        self,
        id: str,
        *,
        prompt: Prompt | None = None,
        chosen: str | None = None,
        rejected: str | None = None,
        expected_version: int | None = None,
    ) -> Pair:
        """Replaces the given texts and returns the new version, or the present one if nothing differs.

        expected_version: the version that the editor saw. Raises PairsError, and changes nothing, if the pair has
        another version by now, if the result is no valid pair or if the id is unknown.
        """
        given: dict[str, Any] = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        given = {key: value for key, value in given.items() if value is not None}
        return self._change(id, "edit", lambda pair: replace(pair, **given), expected_version)

    def swap(self, id: str, *, expected_version: int | None = None) -> Pair:
        """Exchanges chosen and rejected."""
        return self._change(id, "swap", lambda pair: replace(pair, chosen=pair.rejected, rejected=pair.chosen), expected_version)

    def drop(self, id: str, *, expected_version: int | None = None) -> Pair:
        """Takes a pair out of the set; it stays in the store."""
        return self._change(id, "drop", lambda pair: replace(pair, dropped=True), expected_version)

    def restore(self, id: str, *, expected_version: int | None = None) -> Pair:
        """Brings a dropped pair back to its old place."""
        return self._change(id, "restore", lambda pair: replace(pair, dropped=False), expected_version)

    def undo(self) -> Edit | None:
        """Takes back the latest edit not yet undone, whoever made it; returns the new log entry, None if there is none.

        The pair gets a new version with its former content: versions and log only ever grow.
        """
        with self._writing() as db:
            done, _ = tables.undo_stacks(tables.log(db))
            return self._return_to(db, done[-1].pair_id, done[-1].before, "undo") if done else None

    def redo(self) -> Edit | None:
        """Repeats the edit undone last, unless something else was edited since; returns the new log entry or None."""
        with self._writing() as db:
            _, undone = tables.undo_stacks(tables.log(db))
            return self._return_to(db, undone[-1].pair_id, undone[-1].after, "redo") if undone else None

    # Inside

    def _return_to(self, db: sqlite3.Connection, id: str, version: int, action: str) -> Edit:
        return tables.append(db, tables.get(db, id), tables.get(db, id, version), action)

    def _change(self, id: str, action: str, change: Callable[[Pair], Pair], expected_version: int | None) -> Pair:
        with self._writing() as db:
            before = tables.get(db, id)
            if expected_version is not None and before.version != expected_version:
                raise PairsError(
                    f"this pair was changed elsewhere (you saw version {expected_version}, now it is {before.version}); "
                    "look at it again before you change it."
                )
            after = change(before)
            validate(*after.content)
            if after == before:
                return before
            return replace(after, version=tables.append(db, before, after, action).after)

    def _search(self, db: sqlite3.Connection, search: str, where: str, by: str) -> list[int]:
        """Positions of all matches. The latest answer is kept, so that turning pages does not scan the texts again."""
        key = (search, where, by, tables.latest(db))
        known, positions = self._found
        if known != key:
            needle = to_bytes(search.casefold())
            # instr() tries every place where the first byte stands: looking for the needle's end from a rare byte on is faster.
            rare = needle[min(range(len(needle)), key=lambda i: COMMON_BYTES.find(needle[i])) :]
            joined = "SELECT position FROM folded CROSS JOIN pairs USING (position)"  # the texts first: few will match
            query = f"{joined} WHERE instr(text, ?) > 0 AND instr(text, ?) > 0 AND {where} ORDER BY {by}"
            positions = [row[0] for row in db.execute(query, (rare, needle))]
            self._found = (key, positions)
        return positions

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._reading() as db:
            return db.execute(query, values).fetchall()

    def _reading(self) -> Any:
        """One consistent view of the store."""
        return self._transaction("BEGIN", f"{self.path} could not be read")

    def _writing(self) -> Any:
        """The only writer: the lock is taken before anything is read, and everything is written or nothing."""
        return self._transaction("BEGIN IMMEDIATE", f"{self.path} could not be changed and is as it was")

    @contextmanager
    def _transaction(self, begin: str, failure: str) -> Iterator[sqlite3.Connection]:
        try:
            db = self._connection()
            db.execute(begin)
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise PairsError(f"{failure} ({error}).") from error

    def _connection(self) -> sqlite3.Connection:
        """One connection for each thread, and a fresh one in a forked process, or after `close`."""
        now = (os.getpid(), self._closed)
        if getattr(self._local, "opened", None) != now:
            self._local.held, self._local.opened = _Connection(tables.connect(self.path)), now
            self._open.add(self._local.held)
        return self._local.held.db


class _Connection:
    """A thread's connection, which ends with its thread; sqlite3's own cannot be referred to weakly."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db, self.process = db, os.getpid()
