"""Tables of a pair store, for SQLite and PostgreSQL.

`texts` and `versions` are immutable: a row is written once. `pairs` holds what the list sorts and filters by, of each pair's
current version; `entries` and `edits` are the log; `undo_stack` says what each author can undo and redo. Texts are stored by
`records.escape`, values as JSON.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

FORMAT = 2
"""Version of these tables, stored in `about`; another format is refused."""

metadata = MetaData()
Whole = Integer().with_variant(BigInteger(), "postgresql")

about = Table("about", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

SORTED = ("prompt_words", "chosen_words", "rejected_words", "length_difference", "weight", "degree")
"""Columns of `pairs` that the list sorts and filters by."""

pairs = Table(
    "pairs",
    metadata,
    Column("position", Whole, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("version", Whole, nullable=False),
    Column("texts", Whole, nullable=False),
    Column("added", Whole, nullable=False),  # number of the log entry that added the pair, 0 for the first import
    Column("imported", Integer, nullable=False),  # 1 if the pair came from a source, 0 if a person added it
    Column("touched", Whole, nullable=False),  # number of the latest log entry, 0 if none
    Column("dropped", Integer, nullable=False),
    Column("edited", Integer, nullable=False),  # texts, weight or degree differ from version 1
    Column("weight", Float, nullable=False),
    Column("degree", Float),
    *(Column(name, Whole, nullable=False) for name in SORTED[:4]),
    Column("meta", Text, nullable=False),
)
STATE = (pairs.c.position, pairs.c.dropped, pairs.c.edited)
Index("pairs_by_id", pairs.c.id, unique=True)
Index("pairs_by_state", *STATE)
Index("pairs_by_edit", pairs.c.touched.desc(), *STATE)
for name in SORTED:
    Index(f"pairs_by_{name}", pairs.c[name], *STATE)  # covers sorting and the filter by state: deep pages read no row

texts = Table(
    "texts",
    metadata,
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("prompt", Text, nullable=False),
    Column("chosen", Text, nullable=False),
    Column("rejected", Text, nullable=False),
    Column("tools", Text),
)

versions = Table(
    "versions",
    metadata,
    Column("position", Whole, primary_key=True, autoincrement=False),
    Column("version", Whole, primary_key=True, autoincrement=False),
    Column("origin", Whole, nullable=False),  # version whose content undo or redo restored, otherwise this one; 0: not yet added
    Column("texts", Whole, nullable=False),
    Column("dropped", Integer, nullable=False),
    Column("weight", Float, nullable=False),
    Column("degree", Float),
    Column("tags", Text, nullable=False),
    Column("note", Text, nullable=False),
    sqlite_with_rowid=False,
)

entries = Table(
    "entries",
    metadata,
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("edit", Whole, nullable=False),
    Column("position", Whole, nullable=False),
    Column("before", Whole, nullable=False),
    Column("after", Whole, nullable=False),
)
Index("entries_by_pair", entries.c.position, entries.c.number)
Index("entries_by_edit", entries.c.edit, entries.c.number)

edits = Table(
    "edits",
    metadata,
    Column("number", Whole, primary_key=True, autoincrement=False),  # that of its first entry
    Column("time", Float, nullable=False),
    Column("author", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

undo_stack = Table(
    "undo_stack",
    metadata,
    Column("author", Text, primary_key=True),
    Column("edit", Whole, primary_key=True, autoincrement=False),
    Column("undone", Integer, nullable=False),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("position", Whole, primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    sqlite_with_rowid=False,
)
Index("tags_by_name", tags.c.tag, tags.c.position)

search = Table(
    "search",
    metadata,
    Column("position", Whole, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
)

number_names = Table(
    "number_names",
    metadata,
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
)

numbers = Table(
    "numbers",
    metadata,
    Column("name", Whole, primary_key=True, autoincrement=False),
    Column("position", Whole, primary_key=True, autoincrement=False),
    Column("value", Float, nullable=False),
    Column("dropped", Integer, nullable=False),  # those of the pair, so that the index covers the filter by state
    Column("edited", Integer, nullable=False),
    sqlite_with_rowid=False,
)
Index("numbers_by_value", numbers.c.name, numbers.c.value, numbers.c.position, numbers.c.dropped, numbers.c.edited)

counts = Table(
    "counts",
    metadata,
    Column("name", Whole, primary_key=True, autoincrement=False),  # that of the numbers, 0 for the pairs themselves
    Column("dropped", Integer, primary_key=True, autoincrement=False),
    Column("edited", Integer, primary_key=True, autoincrement=False),
    Column("count", Whole, nullable=False),
    sqlite_with_rowid=False,
)

findings = Table(
    "findings",
    metadata,
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("position", Whole, nullable=False),
    Column("texts", Whole, nullable=False),  # the texts that were checked; other texts make the finding stale
    Column("name", Text, nullable=False),
    Column("finding", Text, nullable=False),
)
Index("findings_by_pair", findings.c.position, findings.c.texts)
Index("findings_by_name", findings.c.name, findings.c.position, findings.c.texts)

snapshots = Table(
    "snapshots",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Whole, nullable=False),
    Column("time", Float, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
