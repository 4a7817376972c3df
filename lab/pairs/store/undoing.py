"""Undo and redo, of any depth, for each author on their own."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, func, select

from lab.pairs.pair import PairsError

from . import log, schema
from .database import chunks
from .log import Change, Edit, Signature, read_entry
from .records import Stored, escape, pair_versions, read_stored

SHOWN = 100
"""Entries of an edit that `next_undo` returns."""


def next_undo(db: Connection, author: str) -> list[Edit]:
    """Return the first entries of the edit that the author's next undo takes back."""
    return _entries(db, _top(db, author, undone=False), SHOWN)


def next_redo(db: Connection, author: str) -> list[Edit]:
    """Return the first entries of the edit that the author's next redo repeats."""
    return _entries(db, _top(db, author, undone=True), SHOWN)


def _top(db: Connection, author: str, *, undone: bool) -> int | None:
    """Return the author's latest edit in effect, or their earliest undone one: all undone ones are later than those in effect."""
    s = schema.undo_stack
    number = func.min(s.c.edit) if undone else func.max(s.c.edit)
    top: int | None = db.execute(select(number).where(s.c.author == escape(author), s.c.undone == int(undone))).scalar()
    return top


def _entries(db: Connection, edit: int | None, limit: int | None = None) -> list[Edit]:
    if edit is None:
        return []
    query = log.entries().where(schema.entries.c.edit == edit).order_by(schema.entries.c.number).limit(limit)
    return [read_entry(row) for row in db.execute(query)]


def step(db: Connection, signature: Signature) -> int | None:
    """Undo or redo (the signature's action) the author's next edit; return the number of the new edit, or None without one.

    Raises:
        PairsError: Another author has changed one of the pairs since.
    """
    redo = signature.action == log.REDONE
    edit = _top(db, signature.author, undone=redo)
    if edit is None:
        return None
    entries = _entries(db, edit)
    current: dict[str, Stored] = {item.pair.id: item for item in log.stored(db, [entry.pair_id for entry in entries])}
    versions = _versions(db, entries, current)
    changes = []
    for entry in entries:
        item = current[entry.pair_id]
        old, new = versions[entry.pair_id, entry.before], versions[entry.pair_id, entry.after]
        was, becomes = (old, new) if redo else (new, old)
        if item.origin != was.origin:
            raise PairsError(_overwrites(db, entry, item, signature))
        texts = None if becomes.texts == item.texts else becomes.texts
        after = replace(becomes.pair, version=item.pair.version)
        changes.append(Change(item, after, becomes.origin, item.texts if texts is None else texts))
    return log.record(db, changes, signature, of=edit)


def _versions(db: Connection, entries: list[Edit], current: dict[str, Stored]) -> dict[tuple[str, int], Stored]:
    """Return the versions before and after each entry; before a pair was added it counts as dropped, with origin 0."""
    v, rows = schema.versions, {}
    positions = {item.position: id for id, item in current.items()}
    wanted = {(entry.pair_id, number) for entry in entries for number in (entry.before, entry.after)}
    for chunk in chunks(positions):
        for row in db.execute(pair_versions().where(v.c.position.in_(chunk))):
            item = read_stored(row)
            if (item.pair.id, item.pair.version) in wanted:
                rows[item.pair.id, item.pair.version] = item
    for id, number in wanted:
        if number == 0:
            first = rows[id, 1]
            rows[id, 0] = Stored(replace(first.pair, dropped=True), first.position, first.texts, 0)
    return rows


def _overwrites(db: Connection, entry: Edit, item: Stored, signature: Signature) -> str:
    """Return the message that an undo or redo would overwrite a later edit."""
    e, g = schema.entries, schema.edits
    later = log.entries().where(e.c.position == item.position, e.c.number > entry.number, g.c.author != escape(signature.author))
    row = db.execute(later.order_by(e.c.number.desc()).limit(1)).first()
    who = read_entry(row).author if row else "another edit"
    what = "undone" if signature.action == log.UNDONE else "repeated"
    return (
        f"the {entry.action} of pair {entry.pair_id} cannot be {what}, because {who} changed that pair later; "
        "edit the pair instead, so that their edit is not overwritten."
    )
