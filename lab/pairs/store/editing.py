"""Changes of a pair set: every change makes new versions and is logged with its author and reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from lab import home
from lab.pairs.pair import Answer, Pair, PairsError, Prompt, content_id, json_type

from . import log, schema
from .database import chunks
from .log import Change, Edit, Signature, read_entry
from .pages import PairPages
from .reading import get
from .records import Stored, check_pair, escape, pair_versions, read_stored, tidy_tags

SHOWN = 100
"""Entries of an edit that `next_undo` returns."""


class Keep(Enum):
    """The value of an argument that is not given, where None is a value of its own."""

    KEEP = "keep"


KEEP = Keep.KEEP


class PairConflict(PairsError):
    """A pair was changed by another edit in the meantime; nothing was stored.

    Attributes:
        mine: The pair as this edit would have made it, based on `base`.
        theirs: The pair as it is now.
        base: The version that the edit was based on.
    """

    def __init__(self, mine: Pair, theirs: Pair, base: Pair, author: str) -> None:
        super().__init__(
            f"this pair was changed elsewhere (you saw version {base.version}, now it is {theirs.version}, by {author}); "
            "compare both texts and repeat the edit on the current version."
        )
        self.mine, self.theirs, self.base = mine, theirs, base


@dataclass(frozen=True)
class BulkChange:
    """One change of many pairs: `BulkChange("drop")`, `BulkChange("tag", "checked")`, `BulkChange("weight", 0.5)`.

    Attributes:
        action: "drop", "restore", "swap", "tag", "untag", "weight", "degree" or "note".
        value: The tag, weight, degree (None removes it) or note; nothing for the others.
    """

    action: Literal["drop", "restore", "swap", "tag", "untag", "weight", "degree", "note"]
    value: Any = None

    def of(self, pair: Pair) -> Pair:
        """Return the pair after the change."""
        value = self.value
        changes: dict[str, Callable[[], dict[str, Any]]] = {
            "drop": lambda: {"dropped": True},
            "restore": lambda: {"dropped": False},
            "swap": lambda: {"chosen": pair.rejected, "rejected": pair.chosen},
            "tag": lambda: {"tags": tidy_tags((*pair.tags, value))},
            "untag": lambda: {"tags": tuple(tag for tag in pair.tags if tag != value)},
            "weight": lambda: {"weight": value},
            "degree": lambda: {"degree": value},
            "note": lambda: {"note": value},
        }
        if self.action not in changes:
            raise PairsError(f"There is no change {self.action!r} of many pairs; use {', '.join(changes)}.")
        return replace(pair, **changes[self.action]())


@dataclass(frozen=True)
class Preview:
    """Effect that a bulk change would have.

    Attributes:
        count: Number of pairs that would change.
        ids: The first of them.
    """

    count: int
    ids: tuple[str, ...]


class PairEditor(PairPages):
    """A store of pairs that can be changed. Author: see `lab.home.author`."""

    def edit(
        self,
        id: str,
        *,
        prompt: Prompt | None = None,
        chosen: Answer | None = None,
        rejected: Answer | None = None,
        tools: list[dict[str, Any]] | Keep | None = KEEP,
        weight: float | None = None,
        degree: float | Keep | None = KEEP,
        tags: Iterable[str] | None = None,
        note: str | None = None,
        author: str | None = None,
        reason: str = "",
        expected_version: int | None = None,
    ) -> Pair:
        """Replace the given fields; returns the new version, or the current one if nothing differs.

        Args:
            id: The pair.
            prompt: New prompt; None keeps the current one, as for the answers, weight, tags and note.
            chosen: New chosen answer.
            rejected: New rejected answer.
            tools: New descriptions of functions; None for no tools.
            weight: New factor of the pair's loss, at least 0.
            degree: How clearly `chosen` is better, above 0 and at most 1; None where nobody said.
            tags: All tags of the pair.
            note: New remark.
            author: Name for the log; by default that of `lab.home.author`.
            reason: Why, for the log.
            expected_version: Version that the edit is based on.

        Raises:
            PairConflict: The pair has another version by now; the error has both texts, and nothing changes.
            PairsError: The result is not a valid pair, or the id is unknown. Nothing changes.
        """
        given: dict[str, Any] = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "weight": weight, "note": note}
        given = {key: value for key, value in given.items() if value is not None}
        given |= {key: value for key, value in (("tools", tools), ("degree", degree)) if value is not KEEP}
        given |= {} if tags is None else {"tags": tidy_tags(tags)}
        return self._change(id, lambda pair: replace(pair, **given), self._sign("edit", author, reason), expected_version)

    def swap(self, id: str, *, author: str | None = None, reason: str = "", expected_version: int | None = None) -> Pair:
        """Exchange chosen and rejected; as `edit`."""
        return self._change(id, BulkChange("swap").of, self._sign("swap", author, reason), expected_version)

    def drop(self, id: str, *, author: str | None = None, reason: str = "", expected_version: int | None = None) -> Pair:
        """Exclude a pair from the set; it stays in the store, from which `restore` brings it back."""
        return self._change(id, BulkChange("drop").of, self._sign("drop", author, reason), expected_version)

    def restore(self, id: str, *, author: str | None = None, reason: str = "", expected_version: int | None = None) -> Pair:
        """Bring a dropped pair back to its place in the set."""
        return self._change(id, BulkChange("restore").of, self._sign("restore", author, reason), expected_version)

    def add(self, pair: Pair, *, author: str | None = None, reason: str = "") -> Pair:
        """Add a pair at the end of the set; undo drops it.

        Raises:
            PairsError: The pair is not valid, or its id is taken.
        """
        new = replace(pair, tags=tidy_tags(pair.tags)) if isinstance(pair, Pair) else pair
        with self._database.writing() as db:
            return log.add(db, [new], self._sign("add", author, reason))[0]

    def duplicate(self, id: str, *, author: str | None = None, reason: str = "") -> Pair:
        """Add a copy of a pair at the end of the set, under an id of its own; returns the copy."""
        with self._database.writing() as db:
            pair = get(db, id)
            copy = replace(pair, id=_free_id(db, content_id(*pair.content)), dropped=False)
            return log.add(db, [copy], self._sign("add", author, reason or f"copy of {id}"))[0]

    def preview(self, ids: Iterable[str], change: BulkChange, first: int = 10) -> Preview:
        """Return how many of these pairs a bulk change would change, and the first of them; nothing is stored."""
        with self._database.reading() as db:
            changed = [item.pair.id for item in log.stored(db, ids) if change.of(item.pair) != item.pair]
        return Preview(len(changed), tuple(changed[:first]))

    def apply(self, ids: Iterable[str], change: BulkChange, *, author: str | None = None, reason: str = "") -> int:
        """Change many pairs as one action, which one `undo` takes back; returns how many pairs changed.

        Raises:
            PairsError: An id is unknown, or one of the results is not a valid pair. Nothing changes.
        """
        signature = self._sign(change.action, author, reason)
        with self._database.writing() as db:
            changes = [made for item in log.stored(db, ids) if (made := _checked(item, change.of(item.pair)))]
            if changes:
                log.record(db, changes, signature)
            return len(changes)

    def undo(self, *, author: str | None = None) -> Edit | None:
        """Undo this author's latest action not yet undone, of any process.

        The pairs get new versions with their former content; versions and log entries are never removed.

        Returns:
            The first new log entry, or None if there is nothing to undo.

        Raises:
            PairsError: Another person has changed one of the pairs since; nothing changes.
        """
        return self._step(log.UNDONE, author)

    def redo(self, *, author: str | None = None) -> Edit | None:
        """Repeat the action that this author has undone last, unless they have changed something since; as `undo`."""
        return self._step(log.REDONE, author)

    def next_undo(self, *, author: str | None = None) -> list[Edit]:
        """Return the log entries that `undo` would take back, at most 100 of them; empty if there is nothing to undo."""
        with self._database.reading() as db:
            return _next_undo(db, author or home.author())

    def next_redo(self, *, author: str | None = None) -> list[Edit]:
        """Return the log entries that `redo` would repeat, at most 100 of them; empty if there is nothing to redo."""
        with self._database.reading() as db:
            return _next_redo(db, author or home.author())

    # Inside

    def _sign(self, action: str, author: str | None, reason: str) -> Signature:
        return Signature(author or home.author(), action, reason)

    def _step(self, action: str, author: str | None) -> Edit | None:
        with self._database.writing() as db:
            number = _next_step(db, self._sign(action, author, ""))
            if number is None:
                return None
            return read_entry(db.execute(log.entries().where(schema.entries.c.number == number)).one())

    def _change(self, id: str, change: Callable[[Pair], Pair], signature: Signature, expected_version: int | None) -> Pair:
        with self._database.writing() as db:
            (item,) = log.stored(db, [id])
            if expected_version is not None and not isinstance(expected_version, int):
                raise PairsError(f"expected_version is {json_type(expected_version)}; give a whole number.")
            if expected_version is not None and item.pair.version != expected_version:
                base = get(db, id, expected_version) if 0 < expected_version < item.pair.version else item.pair
                raise PairConflict(change(base), item.pair, replace(base, version=expected_version), _last_author(db, item))
            made = _checked(item, change(item.pair))
            if made is None:
                return item.pair
            log.record(db, [made], signature)
            return replace(made.after, version=item.pair.version + 1)


def _checked(item: Stored, after: Pair) -> Change | None:
    """Return a change to store, or None if nothing differs. Raises PairsError if the result is not a valid pair."""
    if after == item.pair:
        return None
    check_pair(after)
    return Change(item, after)


def _last_author(db: Connection, item: Stored) -> str:
    query = log.entries().where(schema.entries.c.position == item.position).order_by(schema.entries.c.number.desc()).limit(1)
    row = db.execute(query).first()
    return read_entry(row).author if row else "nobody"


def _free_id(db: Connection, id: str) -> str:
    """Return an id that no pair has: this one, or with the suffix -2, -3, ..."""
    number, candidate = 1, id
    while db.execute(select(schema.pairs.c.id).where(schema.pairs.c.id == escape(candidate))).first():
        number += 1
        candidate = f"{id}-{number}"
    return candidate


# Undo and redo, of any depth, for each author on their own


def _next_undo(db: Connection, author: str) -> list[Edit]:
    """Return the first entries of the edit that the author's next undo takes back."""
    return _entries(db, _top(db, author, undone=False), SHOWN)


def _next_redo(db: Connection, author: str) -> list[Edit]:
    """Return the first entries of the edit that the author's next redo repeats."""
    return _entries(db, _top(db, author, undone=True), SHOWN)


def _top(db: Connection, author: str, *, undone: bool) -> int | None:
    """Return the author's latest edit in effect, or their earliest undone one: all undone ones are later than those in effect."""
    edit = schema.undo_stack.c.edit
    query = select(func.min(edit)).where(*log.undone_edits(author)) if undone else log.latest_in_effect(author)
    top: int | None = db.execute(query).scalar()
    return top


def _entries(db: Connection, edit: int | None, limit: int | None = None) -> list[Edit]:
    if edit is None:
        return []
    query = log.entries().where(schema.entries.c.edit == edit).order_by(schema.entries.c.number).limit(limit)
    return [read_entry(row) for row in db.execute(query)]


def _next_step(db: Connection, signature: Signature) -> int | None:
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
    wanted = {(entry.pair_id, number) for entry in entries for number in (entry.before, entry.after)}
    numbers: dict[int, set[int]] = {}
    for id, number in wanted:
        numbers.setdefault(current[id].position, set()).add(max(number, 1))
    for chunk in chunks(numbers):
        these = set().union(*(numbers[position] for position in chunk))  # two conditions: SQLite has no index for pairs of values
        for row in db.execute(pair_versions().where(v.c.position.in_(chunk), v.c.version.in_(these))):
            item = read_stored(row)
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
