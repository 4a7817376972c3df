"""Connections and transactions of a pair store, on SQLite or PostgreSQL."""

from __future__ import annotations

import os
import re
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from lab.pairs.addresses import is_url, refuse_password, usable_path
from lab.pairs.pair import PairsError

BUSY_SECONDS = 60.0
"""Longest time that a writer waits for another one."""
CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "tcp_user_timeout": "30000",
    "application_name": "preference-lab",
}
"""Parameters of libpq where the address has none: no page waits minutes for a server that does not answer."""
CACHE_KIB = 65_536
CHUNK = 1000
"""Values of one IN list, and rows of one bulk insert."""
COPIED = 50
"""Rows above which PostgreSQL gets them by COPY, which takes half of the client's time of INSERT."""
DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error)

T = TypeVar("T")

_inherited: list[Engine] = []
"""Engines whose connections a parent process opened: closing them here would disturb the parent."""


class Database:
    """A store's database: transactions for reading and for writing, safe for threads and forked processes.

    Args:
        location: Path of an SQLite file, or "postgresql://user@host/database?set=name" (`set` is a schema, by default "pairs").
    """

    def __init__(self, location: str | Path) -> None:
        self._url: URL | None
        self._url, self.schema = _postgres_url(location) if isinstance(location, str) and is_url(location) else (None, "")
        self.file = None if self._url is not None else usable_path(location)
        self.location = str(location).strip() if self.file is None else str(self.file)
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._engine = _sqlite(self.file) if self.file is not None else _postgres(self._url, self.schema)
        weakref.finalize(self, self._engine.dispose).atexit = False

    @property
    def sqlite(self) -> bool:
        """Whether this is SQLite, not PostgreSQL."""
        return self.file is not None

    def close(self) -> None:
        """Close all connections that no call uses; a later call opens new ones."""
        self._engine.dispose()

    def reading(self) -> AbstractContextManager[Connection]:
        """Begin a transaction for reading: one consistent state of the store."""
        begin = "BEGIN" if self.sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        return self.transaction(begin, f"{self.location} could not be read")

    def writing(self) -> AbstractContextManager[Connection]:
        """Begin a transaction for writing, whose lock is taken before anything is read."""
        begin = "BEGIN IMMEDIATE" if self.sqlite else "LOCK TABLE edits IN SHARE ROW EXCLUSIVE MODE"
        return self.transaction(begin, f"{self.location} could not be changed; nothing was written")

    @contextmanager
    def transaction(self, begin: str, failure: str) -> Iterator[Connection]:
        """Run a transaction that the statement `begin` opens; an error of the database raises PairsError(failure)."""
        if os.getpid() != self._process:
            _inherited.append(self._engine)
            self._open()
        try:
            with self._engine.connect() as db:
                if begin:
                    db.exec_driver_sql(begin)
                yield db
                db.commit()
        except DATABASE_ERRORS as error:
            raise PairsError(f"{failure} ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    """Return why a database refused, in one line: PostgreSQL's messages go on with its guesses."""
    text = str(getattr(error, "orig", None) or error)
    return " ".join(text.splitlines()[0].split()).rstrip(".") if text else type(error).__name__


def _sqlite(file: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        db = sqlite3.connect(
            f"{file.as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return db

    # Every thread gets a connection at once; what is idle is kept for the next call.
    return create_engine("sqlite://", creator=connect, poolclass=QueuePool, max_overflow=-1)


def _postgres(url: URL | None, schema: str) -> Engine:
    assert url is not None
    try:
        engine = create_engine(url.update_query_dict({**CONNECTION, **url.query}), max_overflow=-1, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        message = f'Pairs in PostgreSQL need the package {error.name}; install it: pip install "preference-lab[postgres]".'
        raise PairsError(message) from None

    @event.listens_for(engine, "connect")
    def use_schema(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'SET search_path TO "{schema}", public')
            cursor.execute(f"SET lock_timeout TO '{BUSY_SECONDS:.0f}s'")
        connection.commit()

    return engine


def _postgres_url(location: str) -> tuple[URL, str]:
    refuse_password(location)
    try:
        url = make_url(location.strip())
    except (ArgumentError, ValueError):  # whose texts may repeat the address
        raise PairsError(
            "The address of the pairs cannot be read; give postgresql://user@host/database?set=name, with a number as the port."
        ) from None
    schema = url.query.get("set", "pairs")
    if not isinstance(schema, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", schema):
        raise PairsError(f"{schema!r} cannot name a set of pairs in a database; use up to 60 letters, digits, _, - and dots.")
    return url.set(drivername="postgresql+psycopg").difference_update_query(["set"]), schema


def insert_rows(db: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows with a value for every column, by the driver, since Core's executemany costs as much as all other work."""
    if db.dialect.name == "postgresql" and len(rows) > COPIED:
        _copy_rows(db, table.name, rows)
    elif rows:
        mark = "?" if db.dialect.paramstyle == "qmark" else "%s"
        db.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({', '.join([mark] * len(table.columns))})", list(rows))


def _copy_rows(db: Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    driver: Any = db.connection.driver_connection
    driver_error: Any = db.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except driver_error as error:  # SQLAlchemy converts those of its own statements only
        raise SQLAlchemyError(str(error)) from error


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Yield values in lists of at most `size`."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
