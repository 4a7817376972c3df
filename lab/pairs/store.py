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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, overload

from . import tables
from .pair import Pair, PairsError, Prompt, to_bytes, validate
from .pair_export import write_pairs
from .tables import PAIR, Edit, read_pair

Only = Literal["all", "edited", "dropped"]
Order = Literal["position", "recent"]
FILTERS = {"all": "dropped = 0", "edited": "edited = 1 AND dropped = 0", "dropped": "dropped = 1"}
COMMON_BYTES = b"zqxjkvbpygfwmucldrhsinoate "  # of English text, the most common last
FEW = 100
"""Search hits up to which ids are read one by one."""
ORDERS = {"position": "position", "recent": "touched DESC, position"}


class PairStore:
    """Preference pairs with versions, drops, undo and search; `PairStore.create` makes a new one.

        store = lab.open_pairs("pairs.jsonl")
        len(store), store[0], store[-5:], store["3f2a90c14be7"]
        for pair in store: ...

    Length, iteration and numbers cover the pairs that are not dropped, in order; an id also finds a dropped pair. Every
    method may be called from any thread. Files are closed when the store is garbage-collected, by `close`, or at the end of a
    `with` block.

    Raises:
        PairsError: `path` is not a store of pairs.
    """

    name: str
    """Display name of the set."""
    source: str
    """Path, hub id or type that the pairs were read from."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self._local, self._open, self._closed = threading.local(), weakref.WeakSet[_Connection](), 0
        self._latest_search: tuple[tuple[object, ...], list[int]] = ((), [])
        if not self.path.is_file():
            raise PairsError(f"There is no file {path}; check the path of the stored pairs.")
        with self._transaction("BEGIN", f"{path} is not a store of pairs") as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != tables.APPLICATION_ID:
                raise PairsError(f"{path} is a database, but not a store of pairs; give a store of pairs.")
            metadata = dict(db.execute("SELECT key, value FROM about").fetchall())
        self.name, self.source = metadata["name"], metadata["source"]

    @classmethod
    def create(cls, path: str | Path, pairs: Iterable[Pair], *, name: str, source: str) -> PairStore:
        """Create a store of these pairs, each as version 1; if `path` exists, open that store instead.

        The file appears under its name only when it is complete. Raises PairsError for invalid pairs, a repeated id, and where the
        file cannot be written.
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
        """Close the file in every thread; no call may be in progress. A later call opens it again."""
        self._closed += 1
        for connection in list(self._open):
            if connection.process == os.getpid():  # a connection copied by a fork belongs to the parent process
                connection.db.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading

    def __len__(self) -> int:
        """Count the pairs that are not dropped."""
        return int(self._rows("SELECT count(*) FROM pairs WHERE dropped = 0")[0][0])

    def __iter__(self) -> Iterator[Pair]:
        """Iterate over the pairs that are not dropped, as they are now; edits meanwhile have no effect on the iteration."""
        return iter(self.all())

    @overload
    def __getitem__(self, key: int | str) -> Pair: ...
    @overload
    def __getitem__(self, key: slice) -> list[Pair]: ...
    def __getitem__(self, key: int | str | slice) -> Pair | list[Pair]:
        """Return a pair by its number (from 0, or negative from the end) or id, or the pairs of a slice.

        Raises:
            IndexError: There is no pair of this number.
            KeyError: There is no pair of this id.
        """
        if isinstance(key, slice):
            return self.all()[key]
        if isinstance(key, str):
            if key not in self:
                raise KeyError(tables.unknown(key))
            return self.get(key)
        count = len(self)
        try:
            number = range(count)[key]
        except IndexError:
            raise IndexError(f"{self.name} has no pair number {key}; it has {count} pairs, numbered from 0.") from None
        except TypeError:
            raise TypeError(f"A pair cannot be found by a {type(key).__name__}; give its number, its id or a slice.") from None
        return self.page(number, 1)[0][0]

    def __contains__(self, item: object) -> bool:
        """Return whether the set has a pair of this id (dropped or not), or this very pair."""
        if isinstance(item, str):
            return bool(self._rows("SELECT 1 FROM pairs WHERE id = ?", item))
        return any(pair == item for pair in self)

    def __repr__(self) -> str:
        return f"PairStore({str(self.path)!r}: {len(self)} pairs, version {self.version})"

    @property
    def version(self) -> int:
        """Number of the latest log entry, 0 before any edit; it identifies a state of the whole set."""
        with self._reading() as db:
            return tables.latest(db)

    def ids(self) -> list[str]:
        """Return the ids of the pairs that are not dropped, in order."""
        return [row[0] for row in self._rows("SELECT id FROM pairs WHERE dropped = 0 ORDER BY position")]

    def get(self, id: str, version: int | None = None) -> Pair:
        """Return one pair, dropped or not, in its current or the given version. Raises PairsError if there is none."""
        with self._reading() as db:
            return tables.get(db, id, version)

    def all(self, version: int | None = None) -> list[Pair]:
        """Return every pair that is not dropped, in order, as of log entry `version` (by default now).

        Raises PairsError for a version that the set has not reached.
        """
        if version is None:
            return [
                read_pair(row) for row in self._rows(PAIR + "AND v.version = p.version WHERE p.dropped = 0 ORDER BY p.position")
            ]
        latest = self.version
        if not 0 <= version <= latest:
            raise PairsError(f"{self.name} has no version {version}; choose one from 0 to {latest}.")
        condition = """AND v.version = coalesce((SELECT after FROM log WHERE log.position = p.position AND number <= ?
            ORDER BY number DESC LIMIT 1), 1) WHERE v.dropped = 0 ORDER BY p.position"""
        return [read_pair(row) for row in self._rows(PAIR + condition, version)]

    def page(
        self, offset: int, limit: int, *, search: str = "", only: Only = "all", order: Order = "position"
    ) -> tuple[list[Pair], int]:
        """Return `limit` of the matching pairs from number `offset` (from 0) on, and how many match in total.

        Args:
            offset: Number of the first pair of the page.
            limit: Pairs of the page.
            search: Text, in any case, in a prompt or an answer.
            only: "all" (not dropped), "edited" (not dropped and different from the import) or "dropped".
            order: "position", or "recent" for the latest edit first.

        Raises:
            PairsError: Any other value.
        """
        if only not in FILTERS or order not in ORDERS:
            filters, orders = ", ".join(FILTERS), " or ".join(ORDERS)
            raise PairsError(f"There is no page of {only!r} ordered by {order!r}; use {filters}, ordered by {orders}.")
        if offset < 0 or limit < 0:
            raise PairsError(f"A page cannot start at {offset} with {limit} pairs; give numbers from 0.")
        where, by = FILTERS[only], ORDERS[order]
        with self._reading() as db:
            if search:
                matches = self._search(db, search, where, by)
                total, positions = len(matches), matches[offset : offset + limit]
            else:
                total = db.execute(f"SELECT count(*) FROM pairs WHERE {where}").fetchone()[0]
                query = f"SELECT position FROM pairs WHERE {where} ORDER BY {by} LIMIT ? OFFSET ?"
                positions = [row[0] for row in db.execute(query, (limit, offset))]
            query = PAIR + "AND v.version = p.version WHERE p.position = ?"
            return [read_pair(db.execute(query, (position,)).fetchone()) for position in positions], total

    def find(self, search: str) -> list[str]:
        """Return the ids of all pairs, dropped or not, with this text, in any case, in a prompt or an answer; in order."""
        if not search:
            return [row[0] for row in self._rows("SELECT id FROM pairs ORDER BY position")]
        with self._reading() as db:
            matches = self._search(db, search, "1", "position")
            if len(matches) > FEW:  # one query for all of them is faster than many
                ids = dict(db.execute("SELECT position, id FROM pairs").fetchall())
                return [ids[position] for position in matches]
            return [db.execute("SELECT id FROM pairs WHERE position = ?", (position,)).fetchone()[0] for position in matches]

    def history(self, id: str) -> list[Pair]:
        """Return every version of a pair, oldest first. Raises PairsError for an unknown id."""
        rows = self._rows(PAIR + "WHERE p.id = ? ORDER BY v.version", id)
        if not rows:
            raise PairsError(tables.unknown(id))
        return [read_pair(row) for row in rows]

    def log(self, since: int = 0) -> list[Edit]:
        """Return the edits with numbers above `since`, oldest first."""
        with self._reading() as db:
            return tables.log(db, since)

    def export(self, path: str | Path) -> int:
        """Write the current pairs in TRL's explicit format, as JSON Lines (.jsonl) or Parquet (.parquet); returns their number.

        The file appears complete or not at all. Raises PairsError if it cannot be written.
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
        """Replace the given texts; returns the new version, or the current one if nothing differs.

        Args:
            id: The pair.
            prompt: New prompt; None keeps the current one, as for the answers.
            chosen: New chosen answer.
            rejected: New rejected answer.
            expected_version: Version that the edit is based on.

        Raises:
            PairsError: The pair has another version by now, the result is not a valid pair, or the id is unknown. Nothing changes.
        """
        given: dict[str, Any] = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        given = {key: value for key, value in given.items() if value is not None}
        return self._change(id, "edit", lambda pair: replace(pair, **given), expected_version)

    def swap(self, id: str, *, expected_version: int | None = None) -> Pair:
        """Exchange chosen and rejected; as `edit`."""
        return self._change(id, "swap", lambda pair: replace(pair, chosen=pair.rejected, rejected=pair.chosen), expected_version)

    def drop(self, id: str, *, expected_version: int | None = None) -> Pair:
        """Exclude a pair from the set; it stays in the store, from which `restore` brings it back."""
        return self._change(id, "drop", lambda pair: replace(pair, dropped=True), expected_version)

    def restore(self, id: str, *, expected_version: int | None = None) -> Pair:
        """Bring a dropped pair back to its place in the set."""
        return self._change(id, "restore", lambda pair: replace(pair, dropped=False), expected_version)

    def undo(self) -> Edit | None:
        """Undo the latest edit not yet undone, of any process; returns the new log entry, or None if there is nothing to undo.

        The pair gets a new version with its former content; versions and log entries are never removed.
        """
        with self._writing() as db:
            done, _ = tables.undo_stacks(tables.log(db))
            return self._return_to(db, done[-1].pair_id, done[-1].before, "undo") if done else None

    def redo(self) -> Edit | None:
        """Repeat the edit undone last, unless another edit was made since; returns the new log entry or None."""
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
                    "reload it and repeat the edit."
                )
            after = change(before)
            validate(*after.content)
            if after == before:
                return before
            return replace(after, version=tables.append(db, before, after, action).after)

    def _search(self, db: sqlite3.Connection, search: str, where: str, by: str) -> list[int]:
        """Positions of all matches. The latest result is kept, so that turning pages does not scan the texts again."""
        key = (search, where, by, tables.latest(db))
        latest_key, positions = self._latest_search
        if latest_key != key:
            needle = to_bytes(search.casefold())
            # instr() compares at every occurrence of the first byte: searching first for the part from a rare byte on is faster.
            rare = needle[min(range(len(needle)), key=lambda i: COMMON_BYTES.find(needle[i])) :]
            joined = "SELECT position FROM folded CROSS JOIN pairs USING (position)"  # scans the texts first, since few match
            query = f"{joined} WHERE instr(text, ?) > 0 AND instr(text, ?) > 0 AND {where} ORDER BY {by}"
            positions = [row[0] for row in db.execute(query, (rare, needle))]
            self._latest_search = (key, positions)
        return positions

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._reading() as db:
            return db.execute(query, values).fetchall()

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction for reading: one consistent state of the store."""
        return self._transaction("BEGIN", f"{self.path} could not be read")

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction for writing, whose lock is taken before anything is read."""
        return self._transaction("BEGIN IMMEDIATE", f"{self.path} could not be changed; nothing was written")

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
        """The connection of this thread; a new one in a forked process and after `close`."""
        current = (os.getpid(), self._closed)
        if getattr(self._local, "key", None) != current:
            self._local.connection, self._local.key = _Connection(tables.connect(self.path)), current
            self._open.add(self._local.connection)
        connection: _Connection = self._local.connection
        return connection.db


class _Connection:
    """A thread's connection, closed when the thread ends; sqlite3's own class does not support weak references."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db, self.process = db, os.getpid()
