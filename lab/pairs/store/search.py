"""Full-text search by the database: any part of a text, in any case.

SQLite indexes the case-folded texts by trigrams (FTS5), PostgreSQL too (pg_trgm). Texts shorter than three characters are found by
a scan. Building an index of trigrams takes longer than storing the pairs, so SQLite indexes the pairs of a large set in the
background: `about` has the position up to which they are indexed, and later positions are searched by a scan.
"""

from __future__ import annotations

import re
import threading
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    column,
    func,
    literal_column,
    select,
    table,
    text,
    update,
)

from lab.pairs.pair import Pair, PairsError

from . import schema
from .database import Database, insert_rows
from .records import turn_texts

SEPARATOR = "\U0010ffff"
"""Between two texts of a pair, so that nothing matches across them."""
TRIGRAM = 3
INDEXED_AT_ONCE = 20_000
"""Pairs of a new set that are indexed while it is created; those after them are indexed in the background."""
LONGEST_PHRASE = 200
"""Characters of a searched text that the index decides by; the texts decide the rest, since the time of an index grows
with the square of a phrase of one repeated character."""
BATCH = 1000
"""Pairs that one transaction indexes: other writers wait for it, some 100 ms."""
_UNINDEXED = re.compile("[\x00\ud800-\udfff\U0010ffff]")
_index = table("search_index", column("search_index"), column("rowid"), column("text"))
_searched = schema.search.c


def fold(text: str) -> str:
    """Return a text for comparison in any case. Characters that a database cannot hold become private ones (OURS)."""
    folded = text.casefold()
    if folded.isascii() and "\x00" not in folded:
        return folded
    return _UNINDEXED.sub(lambda match: chr(0x10F000 + (ord(match[0]) & 0xFFF)), folded)


def search_text(pair: Pair) -> str:
    """Return the folded texts of a pair, with a separator between them."""
    return SEPARATOR.join([fold(text) for value in pair.content for text in turn_texts(value)])


def create_index(db: Connection) -> None:
    """Create the empty search index of a new SQLite store."""
    if db.dialect.name == "sqlite":
        # With positions, so that the index alone decides and counts; without the texts, which `search` holds.
        db.exec_driver_sql(
            "CREATE VIRTUAL TABLE search_index USING fts5(text, content='', columnsize=0, tokenize='trigram case_sensitive 1')"
        )


def finish_index(db: Connection) -> None:
    """Build the search index of a new PostgreSQL store, which is faster with all rows there."""
    if db.dialect.name != "sqlite":
        place = "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'"
        if db.exec_driver_sql(place).first() is None:
            db.exec_driver_sql("CREATE EXTENSION pg_trgm SCHEMA public")
        schema_name = db.exec_driver_sql(place).scalar_one()
        db.exec_driver_sql(f'CREATE INDEX search_index ON search USING gin (text "{schema_name}".gin_trgm_ops)')


def indexed(db: Connection) -> int:
    """Return the position up to which the pairs are in SQLite's index; the pair at this position is not."""
    return int(db.execute(select(schema.about.c.value).where(schema.about.c.key == "indexed")).scalar_one())


def replace_texts(db: Connection, rows: list[tuple[int, str]]) -> None:
    """Replace the searched texts of pairs, given by position."""
    if not rows:
        return
    if db.dialect.name == "sqlite":
        end = indexed(db)
        for position, new in (row for row in rows if row[0] < end):
            old = db.execute(select(_searched.text).where(_searched.position == position)).scalar_one()
            # An index without the texts forgets a text only if it is told exactly that text.
            db.exec_driver_sql("INSERT INTO search_index(search_index, rowid, text) VALUES ('delete', ?, ?)", (position, old))
            db.exec_driver_sql("INSERT INTO search_index(rowid, text) VALUES (?, ?)", (position, new))
    statement = update(schema.search).where(_searched.position == bindparam("at")).values(text=bindparam("new"))
    db.execute(statement, [{"at": position, "new": new} for position, new in rows])


def add_texts(db: Connection, rows: list[tuple[int, str]], *, index: bool) -> None:
    """Add the searched texts of new pairs, given by position, after all others; `index`: at once, if no pair before them waits."""
    insert_rows(db, schema.search, rows)
    if db.dialect.name == "sqlite" and index and rows[0][0] == indexed(db):
        _index_rows(db, rows)


def _index_rows(db: Connection, rows: list[tuple[int, str]]) -> None:
    db.exec_driver_sql("INSERT INTO search_index(rowid, text) VALUES (?, ?)", rows)
    db.execute(update(schema.about).where(schema.about.c.key == "indexed").values(value=str(rows[-1][0] + 1)))


def containing(db: Connection, needle: str) -> list[Select[Any]]:
    """Return queries whose results together are the positions of the pairs with this text in a prompt or an answer, in any case."""
    folded = fold(needle)
    if db.dialect.name != "sqlite":
        return [select(_searched.position).where(_searched.text.contains(folded, autoescape=True))]
    scanned = select(_searched.position).where(func.instr(_searched.text, folded) > 0)
    if len(folded) < TRIGRAM:
        return [scanned]
    phrase = '"' + folded[:LONGEST_PHRASE].replace('"', '""') + '"'
    in_index: Select[Any] = select(literal_column("rowid")).select_from(_index).where(text("search_index MATCH :phrase"))
    hit: Select[Any] = in_index.params(phrase=phrase)
    if len(folded) > LONGEST_PHRASE:
        hit = scanned.where(_searched.position.in_(hit))
    end = indexed(db)
    if end > int(db.execute(select(func.coalesce(func.max(_searched.position), -1))).scalar_one()):
        return [hit]
    return [hit, scanned.where(_searched.position >= end)]


def share_indexed(db: Connection) -> float:
    """Return the share of the pairs that are in the search index, from 0 to 1."""
    if db.dialect.name != "sqlite":
        return 1.0
    count = int(db.execute(select(func.coalesce(func.max(_searched.position), -1))).scalar_one()) + 1
    return min(1.0, indexed(db) / count) if count else 1.0


class Indexer:
    """Background thread that completes the search index of an SQLite store; another process goes on where one stopped."""

    def __init__(self, location: str) -> None:
        self._location, self._stopped = location, threading.Event()
        self._thread = threading.Thread(target=self._run, name="pair search index", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        database = Database(self._location)
        try:
            while not self._stopped.is_set() and _index_next(database):
                pass
        except PairsError:
            pass  # the file was removed or stays locked: searches scan what is not indexed
        finally:
            database.close()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the index is complete or the time is over."""
        self._thread.join(seconds)

    def stop(self) -> None:
        """Stop after the present batch; the next store that opens the file goes on."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()


def _index_next(database: Database) -> bool:
    """Index the next batch; return whether there may be more."""
    with database.writing() as db:
        # A power cut may lose the batch with its mark, not one of the two.
        rows = db.execute(
            select(schema.search).where(_searched.position >= indexed(db)).order_by(_searched.position).limit(BATCH)
        ).fetchall()
        if rows:
            _index_rows(db, [tuple(row) for row in rows])
        return bool(rows)


def hits(shown: str, needle: str) -> list[tuple[int, int]]:
    """Return where a text has a part, in any case: (start, end) of every match, in characters.

    Args:
        shown: The text that is shown.
        needle: The text that was searched.
    """
    wanted = needle.casefold()
    if not wanted:
        return []
    owners: list[int] | range = range(len(shown))
    folded = shown.casefold()
    if len(folded) != len(shown):  # some characters fold into several: count to which character each of them belongs
        owners = [number for number, character in enumerate(shown) for _ in character.casefold()]
    return [(owners[match.start()], owners[match.end() - 1] + 1) for match in re.finditer(re.escape(wanted), folded)]
