"""The log of a pair store: every change of a pair is a new version and an entry; entries of one action form an edit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, func, insert, select, update

from lab.pairs.pair import Pair, PairsError

from . import schema
from .building import insert_new
from .counts import shift, tally_numbers, tally_pairs
from .database import CHUNK, chunks, insert_rows
from .records import Stored, check_new_pair, escape, read_stored, stored_pairs, texts_row, unescape, version_row, word_counts
from .search import replace_texts, search_text

UNDONE, REDONE = "undo", "redo"


@dataclass(frozen=True)
class Edit:
    """One entry of the log: one pair that became another version.

    Attributes:
        number: From 1, without gaps; it also names the state of the whole set after this entry.
        time: Unix seconds.
        pair_id: The pair.
        action: "edit", "swap", "drop", "restore", "tag", "untag", "weight", "degree", "note", "add", "import", "merge", "undo" or
            "redo".
        before, after: Version numbers of the pair; `before` is 0 where the pair was added.
        author: Name of the person who changed it.
        reason: Why, in the author's words.
        group: Number of the first entry of the same action: a bulk action is one group and is undone at once.
    """

    number: int
    time: float
    pair_id: str
    action: str
    before: int
    after: int
    author: str = ""
    reason: str = ""
    group: int = 0


@dataclass(frozen=True)
class Change:
    """A pair's next version.

    Attributes:
        before: The pair as it is stored.
        after: Its new content; id and version number are taken from `before`.
        origin: Version whose content an undo or redo restores; None for new content.
        texts: Number of the texts of that version; None for new content.
    """

    before: Stored
    after: Pair
    origin: int | None = None
    texts: int | None = None


@dataclass(frozen=True)
class Signature:
    """Author, action and reason of a change of the set."""

    author: str
    action: str
    reason: str = ""


@cache
def entries() -> Select[Any]:
    """Return the query of all log entries; see `read_entry`."""
    e, g = schema.entries, schema.edits
    columns = (e.c.number, g.c.time, schema.pairs.c.id, g.c.action, e.c.before, e.c.after, g.c.author, g.c.reason, e.c.edit)
    return select(*columns).join_from(e, g, g.c.number == e.c.edit).join(schema.pairs, schema.pairs.c.position == e.c.position)


def read_entry(row: Sequence[Any]) -> Edit:
    """Convert a row of `entries`."""
    number, at, id, action, before, after, author, reason, group = row
    return Edit(number, at, unescape(id), action, before, after, unescape(author), unescape(reason), group)


def latest(db: Connection) -> int:
    """Return the number of the latest log entry, or 0."""
    return int(db.execute(select(func.coalesce(func.max(schema.entries.c.number), 0))).scalar_one())


def unknown(id: str) -> str:
    """Return the message for an unknown id."""
    return f"There is no pair {id!r} in this set; use one of its ids()."


def stored(db: Connection, ids: Iterable[str]) -> list[Stored]:
    """Return pairs as they are stored, in the order of the ids. Raises PairsError for an unknown id."""
    wanted = list(dict.fromkeys(ids))
    rows: dict[str, Stored] = {}
    for chunk in chunks(wanted):
        condition = schema.pairs.c.id.in_([escape(id) for id in chunk])
        for row in db.execute(stored_pairs().where(condition)):
            pair = read_stored(row)
            rows[pair.pair.id] = pair
    if missing := next((id for id in wanted if id not in rows), None):
        raise PairsError(unknown(missing))
    return [rows[id] for id in wanted]


def record(db: Connection, changes: Sequence[Change], signature: Signature, *, of: int | None = None) -> int:
    """Store the next version of some pairs and log them as one edit; call it in a write transaction.

    Args:
        db: The transaction.
        changes: At least one.
        signature: Author, action and reason.
        of: Edit that an undo or redo is of; None for a fresh edit, after which its author has nothing left to redo.

    Returns:
        The number of the edit.
    """
    first, texts_stored = _numbers(db)
    _sign(db, first, signature, of)
    text_changes = [
        change
        for change in changes
        if change.texts is None
        and (change.after.content, change.after.tools) != (change.before.pair.content, change.before.pair.tools)
    ]
    states, imported = _states(db, [change.before.position for change in changes])
    numbers = _store_texts(db, text_changes, imported, texts_stored)
    rows, updates, entry_rows, marks = [], [], [], []
    for offset, change in enumerate(changes):
        before, position = change.before, change.before.position
        after = replace(change.after, version=before.pair.version + 1)
        texts = numbers.get(position, before.texts) if change.texts is None else change.texts
        rows.append(version_row(position, after, texts, after.version if change.origin is None else change.origin))
        entry_rows.append((first + offset, first, position, before.pair.version, after.version))
        edited = int((texts, float(after.weight), after.degree) != imported[position])
        words = word_counts(after)
        updates.append(
            {
                "at": position,
                "version": after.version,
                "texts": texts,
                "touched": first + offset,
                "dropped": int(after.dropped),
                "edited": edited,
                "weight": float(after.weight),
                "degree": after.degree,
                **dict(zip(schema.SORTED, words)),
            }
        )
        marks.append({"at": position, "dropped": int(after.dropped), "edited": edited})
    insert_rows(db, schema.versions, rows)
    insert_rows(db, schema.entries, entry_rows)
    names = [name for name in updates[0] if name != "at"]
    here = schema.pairs.c.position == bindparam("at")
    db.execute(update(schema.pairs).where(here).values({name: bindparam(f"_{name}") for name in names}), _prefixed(updates))
    _count(db, states, marks)
    _replace_tags(db, changes)
    replace_texts(
        db,
        [
            (change.before.position, search_text(change.after))
            for change in changes
            if change.after.content != change.before.pair.content
        ],
    )
    return first


def _prefixed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return parameters that do not share a name with a column, which `update` reserves."""
    return [{name if name == "at" else f"_{name}": value for name, value in row.items()} for row in rows]


def _sign(db: Connection, number: int, signature: Signature, of: int | None) -> None:
    author, stack = escape(signature.author), schema.undo_stack
    insert_rows(db, schema.edits, [(number, time.time(), author, signature.action, escape(signature.reason))])
    if of is None:
        db.execute(delete(stack).where(*undone_edits(signature.author)))
        db.execute(insert(stack).values(author=author, edit=number, undone=0))
    else:
        mine = stack.c.author == author
        db.execute(update(stack).where(mine, stack.c.edit == of).values(undone=int(signature.action == UNDONE)))


def latest_in_effect(author: str) -> Select[Any]:
    """Return the query of the number of an author's latest edit that is not undone; NULL without one."""
    s = schema.undo_stack
    return select(func.max(s.c.edit)).where(s.c.author == escape(author), s.c.undone == 0)


def undone_edits(author: str) -> list[ColumnElement[bool]]:
    """Return the conditions of an author's undone edits: those after the latest in effect, so that no earlier row is read."""
    s = schema.undo_stack
    return [s.c.author == escape(author), s.c.undone == 1, s.c.edit > func.coalesce(latest_in_effect(author).scalar_subquery(), 0)]


def _numbers(db: Connection) -> tuple[int, int]:
    """Return the number of the next log entry, and that of the latest texts, in one query."""
    maxima = [
        select(func.coalesce(func.max(column), 0)).scalar_subquery() for column in (schema.entries.c.number, schema.texts.c.number)
    ]
    entry, texts = db.execute(select(*maxima)).one()
    return entry + 1, texts


def _states(db: Connection, positions: list[int]) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[int, float, float | None]]]:
    """Return (dropped, edited) and, of version 1, (texts, weight, degree), both by position."""
    p, v = schema.pairs, schema.versions
    states: dict[int, tuple[int, int]] = {}
    imported: dict[int, tuple[int, float, float | None]] = {}
    first = (v.c.position == p.c.position) & (v.c.version == 1)
    columns = (p.c.position, p.c.dropped, p.c.edited, v.c.texts, v.c.weight, v.c.degree)
    for chunk in chunks(positions):
        for position, dropped, edited, *content in db.execute(
            select(*columns).join_from(p, v, first).where(p.c.position.in_(chunk))
        ):
            states[position], imported[position] = (dropped, edited), (content[0], content[1], content[2])
    return states, imported


def _store_texts(
    db: Connection, changes: list[Change], imported: dict[int, tuple[int, float, float | None]], number: int
) -> dict[int, int]:
    """Store new texts after `number`; return their numbers by position. Texts that are those of version 1 again keep its number."""
    if not changes:
        return {}
    t = schema.texts
    first: dict[int, tuple[Any, ...]] = {}
    for chunk in chunks([imported[change.before.position][0] for change in changes]):
        first.update({row[0]: tuple(row) for row in db.execute(select(t).where(t.c.number.in_(chunk)))})
    rows, numbers = [], {}
    for change in changes:
        original = imported[change.before.position][0]
        row = texts_row(original, change.after)
        if row != first[original]:
            number += 1
            rows.append((number, *row[1:]))
        numbers[change.before.position] = original if row == first[original] else number
    insert_rows(db, t, rows)
    return numbers


def _count(db: Connection, before: dict[int, tuple[int, int]], marks: list[dict[str, int]]) -> None:
    """Count pairs and numbers in their new states. Numbers repeat the state of their pair, so that their index covers it."""
    moved = [mark for mark in marks if before[mark["at"]] != (mark["dropped"], mark["edited"])]
    if not moved:
        return
    positions = [mark["at"] for mark in moved]
    shift(db, tally_pairs(before[at] for at in positions), tally_pairs((mark["dropped"], mark["edited"]) for mark in moved))
    numbers_before = tally_numbers(db, positions)
    if not numbers_before:
        return
    n = schema.numbers
    here = (n.c.name == bindparam("of")) & (n.c.position == bindparam("at"))
    statement = update(n).where(here).values(dropped=bindparam("_dropped"), edited=bindparam("_edited"))
    for name in sorted({name for name, _, _ in numbers_before}):
        db.execute(statement, [{"of": name, "at": m["at"], "_dropped": m["dropped"], "_edited": m["edited"]} for m in moved])
    shift(db, numbers_before, tally_numbers(db, positions))


def _replace_tags(db: Connection, changes: Sequence[Change]) -> None:
    retagged = [change for change in changes if change.after.tags != change.before.pair.tags]
    for chunk in chunks(change.before.position for change in retagged):
        db.execute(delete(schema.tags).where(schema.tags.c.position.in_(chunk)))
    insert_rows(db, schema.tags, [(c.before.position, escape(tag)) for c in retagged for tag in c.after.tags])


def add(db: Connection, new: Sequence[Pair], signature: Signature, *, edit: int | None = None) -> list[Pair]:
    """Add pairs at the end of the set, logged as one edit, or as a part of `edit`; call it in a write transaction.

    Raises:
        PairsError: A pair is not valid, or its id is taken.
    """
    for pair in new:
        try:
            check_new_pair(pair)
        except PairsError as error:
            raise PairsError(f"The pair {getattr(pair, 'id', 'without id')} cannot be added: {error}") from None
    p, first = schema.pairs, latest(db) + 1
    for chunk in chunks(new):
        taken = db.execute(select(p.c.id).where(p.c.id.in_([escape(pair.id) for pair in chunk]))).scalar()
        if taken is not None:
            raise PairsError(f"The set already has a pair {unescape(taken)}; give the new pair another id.")
    position = int(db.execute(select(func.coalesce(func.max(p.c.position), -1))).scalar_one()) + 1
    texts = int(db.execute(select(func.coalesce(func.max(schema.texts.c.number), -1))).scalar_one()) + 1
    if edit is None:
        _sign(db, first, signature, None)
    added = [replace(pair, version=1) for pair in new]
    for offset, chunk in zip(range(0, len(added), CHUNK), chunks(added)):
        numbers = range(first + offset, first + offset + len(chunk))
        insert_new(
            db,
            chunk,
            position + offset,
            texts + offset,
            added=first + offset,
            imported=signature.action == "import",
            index=len(added) <= CHUNK,
        )
        insert_rows(db, schema.entries, [(n, first if edit is None else edit, position + n - first, 0, 1) for n in numbers])
    shift(db, Counter(), tally_pairs((int(pair.dropped), 0) for pair in added))
    return added
