"""A set of preference pairs in one database: every change makes a new version, and no version is ever overwritten."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lab.pairs.addresses import usable_path
from lab.pairs.pair import Pair, PairsError
from lab.pairs.pair_export import write_pairs
from lab.pairs.query import PairQuery

from . import building, upgrading
from .database import Database
from .editing import BulkChange
from .sets import PairSets


class PairStore(PairSets):
    """Preference pairs with versions, drops, undo and search; `PairStore.create` makes a new one.

        store = lab.open_pairs("pairs.jsonl")
        len(store), store[0], store[-5:], store["3f2a90c14be7"]
        for pair in store: ...

    Length, iteration and numbers cover the pairs that are not dropped, in order; an id also finds a dropped pair. Every
    method may be called from any thread, and processes may share a store: readers go on while one writes, and every writer takes
    the lock before it reads what it changes, so no edit is lost. Files are closed when the store is garbage-collected, by `close`,
    or at the end of a `with` block.

    Args:
        location: Path of an SQLite file, or the URL of a PostgreSQL database, "postgresql://user@host/database?set=name".

    Raises:
        PairsError: There is no store of pairs.
    """

    def __init__(self, location: str | Path) -> None:
        database = Database(location)
        if database.file is not None and upgrading.is_first_format(database.file):
            upgrading.upgrade(database.file)
        super().__init__(database)

    @classmethod
    def create(
        cls, location: str | Path, pairs: Iterable[Pair], *, name: str, source: str, about: building.About = dict
    ) -> PairStore:
        """Create a store of these pairs, each as version 1; if there is one at this location, open that one instead.

        The store appears under its name only when it is complete. Pairs are taken one by one, so that memory does not grow. Raises
        PairsError for invalid pairs, a repeated id, and where the store cannot be written. `about` is called once all pairs were
        taken, and gives what `PairStore.about` returns.
        """
        database = Database(location)
        if database.file is None or not database.file.exists():
            building.create(database, pairs, name, source, about)
        return cls(location)

    @staticmethod
    def exists(location: str | Path) -> bool:
        """Return whether there is a file, or a set in the database, already. Raises PairsError if the database is away."""
        return building.is_there(Database(location))

    @property
    def path(self) -> Path:
        """File of the store. Raises PairsError for a set in a PostgreSQL database; `location` names both."""
        if self._database.file is None:
            raise PairsError(f"{self.name} is stored in a database and has no file; use its location.")
        return self._database.file

    def export(self, path: str | Path, *, query: PairQuery | None = None, version: int | str | None = None) -> int:
        """Write pairs to a .jsonl, .csv or .parquet file, as `lab.pairs.write_pairs` does; returns their number.

        The file appears complete or not at all.

        Args:
            path: File to write.
            query: Which of the present pairs; they keep the order of the set. By default all that are not dropped.
            version: Number of a log entry (0 for the set as imported) or name of a snapshot, in place of the present state.

        Raises:
            PairsError: The file cannot be written, there is no such version, or both a query and a version are given.
        """
        if query is not None and version is not None:
            raise PairsError("A filter applies to the present pairs only; export either what it lists or an earlier version.")
        if version is not None:
            return write_pairs(self.all(self.version_of(version)), usable_path(path))
        return write_pairs(self if query is None else self.select(query), usable_path(path))

    def split(
        self,
        query: PairQuery,
        location: str | Path,
        *,
        name: str = "",
        drop: bool = False,
        author: str | None = None,
        reason: str = "",
    ) -> PairStore:
        """Copy the matching pairs, as they are, into a new store; returns it.

        Args:
            query: Which pairs; they keep the order of this set.
            location: File or database URL of the new store.
            name: Name of the new set; by default "part of" this one.
            drop: Drop the copied pairs here, as one action, so that every pair is in one of the two sets.
            author: Name for the log.
            reason: Why, for the log.

        Raises:
            PairsError: No pair matches, there is a store at the location, or it cannot be written.
        """
        pairs = self.select(query)
        if not pairs:
            raise PairsError(f"No pair of {self.name} matches, so there is nothing to split off; change the filter.")
        if self.exists(location):
            raise PairsError(f"There is already something at {location}; choose another place for the new set.")
        part = PairStore.create(location, pairs, name=name or f"part of {self.name}", source=self.source)
        if drop:
            self.apply([pair.id for pair in pairs], BulkChange("drop"), author=author, reason=reason or f"split off as {part.name}")
        return part
