"""Full-text search by the database: any part of a text, in any case.

SQLite indexes the case-folded texts by trigrams (FTS5), PostgreSQL too (pg_trgm). The index finds candidates, and a comparison with
the folded texts decides, so texts shorter than three characters are found as well, by a scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, column, func, literal_column, select, table, text

from lab.pairs.pair import Pair

from . import schema
from .records import turn_texts

SEPARATOR = "\U0010ffff"
"""Between two texts of a pair, so that nothing matches across them."""
TRIGRAM = 3
BUILDING_BYTES, EDITING_BYTES = 1 << 26, 1 << 20
"""Memory for index entries that are not written yet, while a store is filled and later."""
_UNINDEXED = re.compile("[\x00\ud800-\udfff\U0010ffff]")
_index = table("search_index", column("search_index"), column("rowid"), column("text"))


def fold(text: str) -> str:
    """Return a text for comparison in any case. Characters that a database cannot hold become private ones (OURS)."""
    folded = text.casefold()
    if folded.isascii() and "\x00" not in folded:
        return folded
    return _UNINDEXED.sub(lambda match: chr(0x10F000 + (ord(match[0]) & 0xFFF)), folded)


def search_text(pair: Pair) -> str:
    """Return the folded texts of a pair, with a separator between them."""
    return SEPARATOR.join(
        [fold(text) for value in pair.content for text in ((value,) if isinstance(value, str) else turn_texts(value))]
    )


def create_index(db: Connection) -> None:
    """Create the empty search index of a new SQLite store."""
    if db.dialect.name == "sqlite":
        # Without positions and contents the index is half as large; the candidates are compared with `search.text` anyway.
        options = "content='', detail=none, columnsize=0, tokenize='trigram case_sensitive 1'"
        db.exec_driver_sql(f"CREATE VIRTUAL TABLE search_index USING fts5(text, {options})")
        db.exec_driver_sql("INSERT INTO search_index(search_index, rank) VALUES ('hashsize', ?)", (BUILDING_BYTES,))


def finish_index(db: Connection) -> None:
    """Prepare the index of a filled store for single edits; on PostgreSQL build it, since that is faster with all rows there."""
    if db.dialect.name == "sqlite":
        db.exec_driver_sql("INSERT INTO search_index(search_index, rank) VALUES ('hashsize', ?)", (EDITING_BYTES,))
    else:
        db.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public")
        db.exec_driver_sql("CREATE INDEX search_index ON search USING gin (text gin_trgm_ops)")


def replace_texts(db: Connection, rows: Iterable[tuple[int, str]]) -> None:
    """Replace the searched texts of pairs, given by position."""
    rows = list(rows)
    update = schema.search.update().where(schema.search.c.position == bindparam("at")).values(text=bindparam("new"))
    if db.dialect.name == "sqlite":
        for position, new in rows:
            old = db.execute(select(schema.search.c.text).where(schema.search.c.position == position)).scalar_one()
            # A contentless index forgets a text only if it is told exactly that text.
            db.exec_driver_sql("INSERT INTO search_index(search_index, rowid, text) VALUES ('delete', ?, ?)", (position, old))
            db.exec_driver_sql("INSERT INTO search_index(rowid, text) VALUES (?, ?)", (position, new))
    if rows:
        db.execute(update, [{"at": position, "new": new} for position, new in rows])


def add_texts(db: Connection, rows: list[tuple[int, str]]) -> None:
    """Add the searched texts of new pairs, given by position."""
    if not rows:
        return
    mark = "?" if db.dialect.name == "sqlite" else "%s"
    db.exec_driver_sql(f"INSERT INTO search VALUES ({mark}, {mark})", rows)
    if db.dialect.name == "sqlite":
        db.exec_driver_sql("INSERT INTO search_index(rowid, text) VALUES (?, ?)", rows)


def contains(needle: str, sqlite: bool) -> ColumnElement[bool]:
    """Return the condition that a pair (a row of `pairs`) has this text in a prompt or an answer, in any case."""
    folded, positions = fold(needle), select(schema.search.c.position)
    if sqlite:
        found = positions.where(func.instr(schema.search.c.text, folded) > 0)
        if len(folded) >= TRIGRAM:
            trigrams = dict.fromkeys(folded[i : i + TRIGRAM] for i in range(len(folded) - TRIGRAM + 1))
            query = " AND ".join('"' + trigram.replace('"', '""') + '"' for trigram in trigrams)
            candidates: Select[Any] = select(literal_column("rowid")).select_from(_index).where(text("search_index MATCH :match"))
            found = found.where(schema.search.c.position.in_(candidates.params(match=query)))
    else:
        found = positions.where(schema.search.c.text.contains(folded, autoescape=True))
    return schema.pairs.c.position.in_(found)


def hits(shown: str, needle: str) -> list[tuple[int, int]]:
    """Return where a text has a part, in any case: (start, end) of every match, in characters.

    Args:
        shown: The text that is shown.
        needle: The text that was searched.
    """
    wanted = needle.casefold()
    if not wanted:
        return []
    folded = shown.casefold()
    if len(folded) == len(shown):
        places = range(len(shown) + 1)  # one character each: a place in one text is the same place in the other
        ends = places
    else:  # some characters fold into several: count to which character each of them belongs
        owners = [number for number, character in enumerate(shown) for _ in character.casefold()]
        places, ends = [*owners, len(shown)], [0, *(owner + 1 for owner in owners)]  # type: ignore[assignment]
    return [(places[match.start()], ends[match.end()]) for match in re.finditer(re.escape(wanted), folded)]
