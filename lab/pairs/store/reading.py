"""Reading the pairs of a store: one, some or all, in any version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, overload

from sqlalchemy import Connection, Select, delete, func, select

from lab.pairs.pair import Pair, PairsError

from . import counts, log, schema
from .building import identify
from .database import Database, chunks, insert_rows
from .log import Edit, read_entry
from .records import PAIR_COLUMNS, escape, pair_versions, read_pair, stored_pairs, unescape

BATCH = 2000
"""Rows that a long read fetches at once."""


def set_about(db: Connection, values: Mapping[str, str]) -> None:
    """Store facts about the import; see `PairReader.about`."""
    table = schema.about
    db.execute(delete(table).where(table.c.key.in_(list(values))))
    insert_rows(db, table, [(key, escape(value)) for key, value in values.items()])


class PairReader:
    """A store of pairs, for reading. Length, iteration and numbers cover the pairs that are not dropped, in order."""

    name: str
    """Display name of the set."""
    source: str
    """Path, hub id or type that the pairs were read from."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.name, self.source = identify(database)

    @property
    def location(self) -> str:
        """The store's file, or the URL of its database: what opens it again."""
        return self._database.location

    def about(self, key: str) -> str:
        """Return what is stored about the import under a key ("fingerprint", "report"); empty where there is nothing."""
        with self._database.reading() as db:
            value = db.execute(select(schema.about.c.value).where(schema.about.c.key == key)).scalar()
        return "" if value is None else unescape(value)

    def close(self) -> None:
        """Close the file in every thread; no call may be in progress. A later call opens it again."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Count the pairs that are not dropped."""
        with self._database.reading() as db:
            return counts.count(db, counts.PAIRS, schema.counts.c.dropped == 0)

    def __iter__(self) -> Iterator[Pair]:
        """Iterate over the pairs that are not dropped, as they are now; edits meanwhile have no effect on the iteration."""
        with self._database.reading() as db:
            yield from _stream(db, _current())

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
                raise KeyError(log.unknown(key))
            return self.get(key)
        with self._database.reading() as db:
            p = schema.pairs
            count = counts.count(db, counts.PAIRS, schema.counts.c.dropped == 0)
            try:
                number = range(count)[key]
            except IndexError:
                raise IndexError(f"{self.name} has no pair number {key}; it has {count} pairs, numbered from 0.") from None
            except TypeError:
                raise TypeError(f"A pair cannot be found by a {type(key).__name__}; give its number, its id or a slice.") from None
            position = db.execute(select(p.c.position).where(p.c.dropped == 0).order_by(p.c.position).offset(number).limit(1))
            return pairs_at(db, [position.scalar_one()])[0]

    def __contains__(self, item: object) -> bool:
        """Return whether the set has a pair of this id (dropped or not), or this very pair among those not dropped."""
        id = item if isinstance(item, str) else getattr(item, "id", None)
        if not isinstance(id, str):
            return False
        with self._database.reading() as db:
            row = db.execute(stored_pairs().where(schema.pairs.c.id == escape(id))).first()
        return row is not None and (isinstance(item, str) or (read_pair(row) == item and not read_pair(row).dropped))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r}: {len(self)} pairs, version {self.version})"

    @property
    def version(self) -> int:
        """Number of the latest log entry, 0 before any edit; it identifies a state of the whole set."""
        with self._database.reading() as db:
            return log.latest(db)

    def ids(self) -> list[str]:
        """Return the ids of the pairs that are not dropped, in order."""
        p = schema.pairs
        with self._database.reading() as db:
            return [unescape(id) for id in db.execute(select(p.c.id).where(p.c.dropped == 0).order_by(p.c.position)).scalars()]

    def get(self, id: str, version: int | None = None) -> Pair:
        """Return one pair, dropped or not, in its current or the given version. Raises PairsError if there is none."""
        with self._database.reading() as db:
            return get(db, id, version)

    def all(self, version: int | None = None) -> list[Pair]:
        """Return every pair that is not dropped, in order, as of log entry `version` (by default now).

        Raises PairsError for a version that the set has not reached.
        """
        with self._database.reading() as db:
            return list(_stream(db, _current() if version is None else self._as_of(db, version)))

    def _as_of(self, db: Connection, version: int) -> Select[Any]:
        """Return the query of the pairs that were not dropped as of a log entry."""
        latest = log.latest(db)
        if not is_version(version, latest):
            raise PairsError(f"{self.name} has no version {version}; choose one from 0 to {latest}.")
        return as_of(version).where(schema.versions.c.dropped == 0).order_by(schema.pairs.c.position)

    def later_imports(self) -> dict[str, int]:
        """Return the number of the log entry that added a pair, by its id, for pairs of every import but the first."""
        this = schema.pairs.c
        query = select(this.id, this.added).where(this.imported == 1, this.added > 0)
        with self._database.reading() as db:
            return {unescape(id): added for id, added in db.execute(query)}

    def history(self, id: str) -> list[Pair]:
        """Return every version of a pair, oldest first. Raises PairsError for an unknown id."""
        with self._database.reading() as db:
            query = pair_versions().where(schema.pairs.c.id == escape(id)).order_by(schema.versions.c.version)
            rows = db.execute(query).fetchall()
        if not rows:
            raise PairsError(log.unknown(id))
        return [read_pair(row) for row in rows]

    def log(self, since: int = 0, *, id: str | None = None) -> list[Edit]:
        """Return the log entries with numbers above `since`, of all pairs or of one, oldest first."""
        query = log.entries().where(schema.entries.c.number > since).order_by(schema.entries.c.number)
        if id is not None:
            query = query.where(schema.pairs.c.id == escape(id))
        with self._database.reading() as db:
            return [read_entry(row) for row in db.execute(query)]


def get(db: Connection, id: str, version: int | None = None) -> Pair:
    """Return one pair in its current or the given version. Raises PairsError if there is none."""
    this = schema.pairs.c.id == escape(id)
    query = stored_pairs() if version is None else pair_versions().where(schema.versions.c.version == version)
    row = db.execute(query.where(this)).first()
    if row is None:
        known = db.execute(select(schema.pairs.c.version).where(this)).scalar()
        raise PairsError(f"The pair {id} has no version {version}; choose one from 1 to {known}." if known else log.unknown(id))
    return read_pair(row)


def is_version(version: object, latest: int) -> bool:
    """Return whether a value is the number of a log entry, or 0."""
    return isinstance(version, int) and not isinstance(version, bool) and 0 <= version <= latest


def pairs_at(db: Connection, positions: Sequence[int]) -> list[Pair]:
    """Return the current pairs at some positions, in the order of the positions."""
    rows: dict[int, Pair] = {}
    for chunk in chunks(positions):
        for row in db.execute(stored_pairs().where(schema.pairs.c.position.in_(chunk))):
            rows[row[len(PAIR_COLUMNS)]] = read_pair(row)
    return [rows[position] for position in positions]


def as_of(version: int) -> Select[Any]:
    """Return the query of all pairs as of a log entry, dropped or not, in no order."""
    e, p = schema.entries, schema.pairs
    last = select(e.c.after).where(e.c.position == p.c.position, e.c.number <= version)
    number = func.coalesce(last.order_by(e.c.number.desc()).limit(1).scalar_subquery(), 1)
    return pair_versions().where(p.c.added <= version, schema.versions.c.version == number)


def _current() -> Select[Any]:
    return stored_pairs().where(schema.pairs.c.dropped == 0).order_by(schema.pairs.c.position)


def _stream(db: Connection, query: Select[Any]) -> Iterator[Pair]:
    for row in db.execute(query, execution_options={"stream_results": True, "yield_per": BATCH}):
        yield read_pair(row)
