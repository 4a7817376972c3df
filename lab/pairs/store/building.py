"""New stores: complete or not there at all, also when the process that builds one is killed."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.schema import CreateTable

from lab.pairs.pair import Pair, PairsError

from . import schema
from .counts import PAIRS, recount
from .database import DATABASE_ERRORS, Database, chunks, insert_rows
from .records import as_new, check_new_pair, escape, pair_row, texts_row, unescape, version_row
from .search import INDEXED_AT_ONCE, add_texts, create_index, finish_index, search_text

APPLICATION_ID = 0x50414952  # "PAIR", in the header of an SQLite file
BUILDING = ".building"
"""Suffix of a file that is being filled."""
About = Callable[[], Mapping[str, str]]
"""Gives what is stored about an import, once all pairs were read."""


def create(database: Database, pairs: Iterable[Pair], name: str, source: str, about: About = dict) -> None:
    """Create the store of a database that does not exist yet.

    Raises:
        PairsError: A pair is not valid, an id is repeated, or the store cannot be written.
    """
    if database.file is None:
        with database.transaction("", f"The pairs could not be stored at {database.location}") as db:
            # One process builds; another one waits, as long as it takes, and then finds the complete set.
            db.exec_driver_sql("SET LOCAL lock_timeout = 0")
            db.execute(select(func.pg_advisory_xact_lock(APPLICATION_ID)))
            if not exists(database, db):
                db.exec_driver_sql(f'CREATE SCHEMA "{database.schema}"')
                _fill(db, pairs, name, source, about)
        return
    with build_file(database.file, pairs, name, source, about) as building:
        _publish(building, database.file)


@contextmanager
def build_file(path: Path, pairs: Iterable[Pair], name: str, source: str, about: About = dict) -> Iterator[Path]:
    """Yield a complete store in a file beside `path`, to be renamed; it is removed at the end if it was not.

    Raises:
        PairsError: A pair is not valid, an id is repeated, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with _new_file(path) as building:
            _fill_file(building, pairs, name, source, about)
            yield building
    except (*DATABASE_ERRORS, OSError) as error:
        raise PairsError(f"The pairs could not be stored at {path} ({error}); check the folder and the disk.") from error


def exists(database: Database, db: Connection) -> bool:
    """Return whether PostgreSQL has the schema of the set."""
    query = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"
    return db.exec_driver_sql(query, (database.schema,)).first() is not None


def is_there(database: Database) -> bool:
    """Return whether there is a file, or a set in the database, already."""
    if database.file is not None:
        return database.file.exists()
    with database.transaction("", f"{database.location} could not be opened") as db:
        return exists(database, db)


def _fill_file(file: Path, pairs: Iterable[Pair], name: str, source: str, about: About) -> None:
    """Write all tables into a new file, without a journal: after an error the caller removes the file."""
    with Database(file).transaction("PRAGMA journal_mode = OFF", f"{file} could not be written") as db:
        db.exec_driver_sql("PRAGMA synchronous = OFF")
        db.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        db.exec_driver_sql(f"PRAGMA user_version = {schema.FORMAT}")
        db.exec_driver_sql("BEGIN")
        _fill(db, pairs, name, source, about)
        db.commit()
        db.exec_driver_sql("PRAGMA journal_mode = WAL")
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _fill(db: Connection, pairs: Iterable[Pair], name: str, source: str, about: About) -> None:
    for table in schema.metadata.sorted_tables:
        db.execute(CreateTable(table))
    create_index(db)
    metadata = {"name": name, "source": source, "format": str(schema.FORMAT), "marks": "0", "indexed": "0"}
    insert_rows(db, schema.about, [(key, escape(value)) for key, value in metadata.items()])
    position = 0
    for chunk in chunks(_checked(pairs)):
        insert_new(db, chunk, position, position, added=0, imported=True, index=position < INDEXED_AT_ONCE)
        position += len(chunk)
    insert_rows(db, schema.about, [(key, escape(value)) for key, value in about().items()])
    if repeated := _repeated(db):
        raise PairsError(repeated)
    finish_index(db)
    for table in schema.metadata.sorted_tables:  # after the rows: a sorted index is built faster than it is kept
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(db)
    recount(db, PAIRS)
    db.exec_driver_sql("ANALYZE")


def _checked(pairs: Iterable[Pair]) -> Iterator[Pair]:
    for number, pair in enumerate(pairs, 1):
        try:
            check_new_pair(pair)
        except PairsError as error:
            raise PairsError(f"Pair {number} ({getattr(pair, 'id', 'without id')}): {error}") from None
        yield as_new(pair)


def insert_new(db: Connection, pairs: list[Pair], position: int, texts: int, *, added: int, imported: bool, index: bool) -> None:
    """Insert pairs as version 1, from a position and a number of texts on; `added` is the log entry of the first, 0 for none."""
    places = [(position + number, texts + number, pair) for number, pair in enumerate(pairs)]
    insert_rows(db, schema.texts, [texts_row(number, pair) for _, number, pair in places])
    insert_rows(db, schema.versions, [version_row(at, pair, number, 1) for at, number, pair in places])
    insert_rows(
        db, schema.pairs, [pair_row(at, pair, number, added and added + at - position, imported) for at, number, pair in places]
    )
    insert_rows(db, schema.tags, [(at, escape(tag)) for at, _, pair in places for tag in pair.tags])
    add_texts(db, [(at, search_text(pair)) for at, _, pair in places], index=index)


def _repeated(db: Connection) -> str:
    """Return the message for the first id that is there twice, or ""."""
    pairs = schema.pairs
    ids = select(pairs.c.id).group_by(pairs.c.id).having(func.count() > 1)
    row = db.execute(select(pairs.c.id, func.max(pairs.c.position)).where(pairs.c.id.in_(ids)).group_by(pairs.c.id)).first()
    if row is None:
        return ""
    return f"Pair {row[1] + 1} has the id {unescape(row[0])} of an earlier pair; give every pair its own id."


def _publish(building: Path, path: Path) -> None:
    """Give a complete file its final name, unless another process was faster; then its file stays."""
    try:
        os.link(building, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            building.rename(path)


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` to fill and publish; removed at the end. It is locked, so that `_sweep` keeps it."""
    while True:
        file = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:12]}{BUILDING}")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        with suppress(OSError):  # a file system without locks: `_sweep` then removes nothing
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if file.exists():  # otherwise it was swept before it was locked
            break
        os.close(descriptor)
    try:
        yield file
    finally:
        for part in ("", "-journal", "-wal", "-shm"):
            file.with_name(file.name + part).unlink(missing_ok=True)
        os.close(descriptor)


def _sweep(path: Path) -> None:
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


def identify(database: Database) -> tuple[str, str]:
    """Return the name and the source of an existing store.

    Raises:
        PairsError: There is no store, or one of another format.
    """
    where = database.location
    if database.file is not None:
        if not database.file.is_file():
            raise PairsError(f"There is no file {where}; check the path of the stored pairs.")
        with database.transaction("BEGIN", f"{where} is not a store of pairs") as db:
            if db.exec_driver_sql("PRAGMA application_id").scalar() != APPLICATION_ID:
                raise PairsError(f"{where} is a database, but not a store of pairs; give a store of pairs.")
            version = db.exec_driver_sql("PRAGMA user_version").scalar()
    else:
        with database.transaction("", f"{where} could not be opened") as db:
            if not exists(database, db):
                raise PairsError(f"{where} has no set of pairs named {database.schema!r}; create it from a file first.")
            query = select(schema.about.c.value).where(schema.about.c.key == "format")
            version = int(db.execute(query).scalar_one())
    if version != schema.FORMAT:
        raise PairsError(
            f"{where} was written by another version of the lab (format {version}, this one reads {schema.FORMAT}); "
            "export its pairs there as JSON Lines and open that file."
        )
    with database.reading() as db:
        about = {row[0]: unescape(row[1]) for row in db.execute(select(schema.about))}
    return about["name"], about["source"]
