"""Whole sets: named snapshots, the difference between two states, merging, and importing a source again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from lab import home
from lab.pairs.checks.texts import shorten
from lab.pairs.pair import Pair, PairsError, json_type, prompt_text
from lab.pairs.update_report import MOST_NAMED, Difference, SourceConflict, UpdateReport

from . import log, schema
from .annotations import PairAnnotations
from .database import chunks
from .log import Change, Signature
from .reading import as_of, is_version, set_about
from .records import (
    PAIR_COLUMNS,
    Stored,
    check_pair,
    decode,
    encode,
    escape,
    pair_versions,
    read_pair,
    read_stored,
    tidy_tags,
    unescape,
)

p, v, e = schema.pairs, schema.versions, schema.entries


@dataclass(frozen=True)
class Snapshot:
    """A named state of the whole set.

    Attributes:
        name: Unique in the set.
        version: Number of the latest log entry at that time; see `PairStore.all`.
        time: Unix seconds.
        author: Who named it.
        reason: Why, in the author's words.
    """

    name: str
    version: int
    time: float
    author: str
    reason: str


RUN_VERSIONS = ("current", "follow")
"""Values of a run's `pairs_version` that are no snapshot."""
OWN_SOURCE = "its source has changed"
"""Reason in the log of updates from the source that the set was made from."""


class PairSets(PairAnnotations):
    """A store of pairs whose states can be named, compared and merged."""

    def snapshot(self, name: str, *, author: str | None = None, reason: str = "") -> Snapshot:
        """Name the present state of the set; `all(snapshot.version)` gives its pairs.

        Raises:
            PairsError: The name is empty, taken, or would name another version where a run's `pairs_version` is given.
        """
        if not isinstance(name, str):
            raise PairsError(f"The name of a snapshot is {json_type(name)}; give text.")
        name = name.strip()
        if name in RUN_VERSIONS or name.isdecimal():
            raise PairsError(f"A snapshot cannot be named {name!r}, which means another version for a run; add a word to it.")
        with self._database.writing() as db:
            if not name or db.execute(select(schema.snapshots.c.name).where(schema.snapshots.c.name == escape(name))).first():
                raise PairsError(
                    f"A snapshot cannot be named {name!r}{', which is taken' if name else ''}; give it a name of its own."
                )
            made = Snapshot(name, log.latest(db), time.time(), author or home.author(), reason)
            row = {
                "name": escape(name),
                "version": made.version,
                "time": made.time,
                "author": escape(made.author),
                "reason": escape(reason),
            }
            db.execute(insert(schema.snapshots).values(**row))
        return made

    def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, oldest first."""
        with self._database.reading() as db:
            rows = db.execute(select(schema.snapshots).order_by(schema.snapshots.c.version, schema.snapshots.c.time)).all()
        return [Snapshot(unescape(row[0]), row[1], row[2], unescape(row[3]), unescape(row[4])) for row in rows]

    def diff(self, first: int | str, second: int | str | None = None) -> Difference:
        """Return what differs between two states of the set.

        Args:
            first: Number of a log entry (0 for the set as imported), or the name of a snapshot.
            second: As `first`; by default the present state.

        Raises:
            PairsError: There is no such state.
        """
        with self._database.reading() as db:
            before, after = (self._state(db, state) for state in (first, second))
            low, high = sorted((before, after))
            touched = select(e.c.position).where(e.c.number > low, e.c.number <= high)
            states: list[dict[int, Pair]] = []
            for version in (before, after):
                rows = db.execute(as_of(version).where(p.c.position.in_(touched)))
                states.append({row[len(PAIR_COLUMNS)]: read_pair(row) for row in rows})
            positions = sorted(states[0].keys() | states[1].keys())
        return _difference([(states[0].get(position), states[1].get(position)) for position in positions])

    def version_of(self, state: int | str) -> int:
        """Return the number of a state: itself, or that of a snapshot's name. Raises PairsError if there is no such state."""
        with self._database.reading() as db:
            return self._state(db, state)

    def _state(self, db: Connection, state: int | str | None) -> int:
        latest = log.latest(db)
        if state is None:
            return latest
        if isinstance(state, str):
            version = db.execute(select(schema.snapshots.c.version).where(schema.snapshots.c.name == escape(state))).scalar()
            if version is None:
                names = ", ".join(repr(unescape(name)) for name in db.execute(select(schema.snapshots.c.name)).scalars())
                raise PairsError(f"{self.name} has no snapshot {state!r}; " + (f"it has {names}." if names else "name one first."))
            return int(version)
        if not is_version(state, latest):
            raise PairsError(f"{self.name} has no version {state}; choose one from 0 to {latest}.")
        return state

    def merge(self, other: PairSets, *, author: str | None = None, reason: str = "") -> UpdateReport:
        """Take the pairs and edits of another store of the same or of other pairs.

        Pairs that are not here are added; a pair edited only there takes that content; one edited on both sides is a conflict, and
        what is here stays.

        Args:
            other: The other store; it is not changed.
            author: Name for the log.
            reason: Why, for the log; by default the other set's name.
        """
        if not isinstance(other, PairSets):
            raise PairsError(f"A set is merged with another set, not with {json_type(other)}; open it with lab.open_pairs.")
        report = UpdateReport()
        theirs = ((item.pair, base.pair) for item, base in other._with_base())
        self._take(theirs, report, Signature(author or home.author(), "merge", reason or f"from {other.name}"), key=None)
        return report

    def update_from(
        self,
        pairs: Iterable[Pair],
        *,
        key: str | None = None,
        drop_vanished: bool = False,
        own_source: bool = False,
        author: str | None = None,
        reason: str = "imported again",
        about: Callable[[], Mapping[str, str]] | None = None,
    ) -> UpdateReport:
        """Import a source again: new rows are added, edits made here are kept.

        Rows are matched by id, a hash of the content as imported where the source has no ids of its own. A row whose content
        has changed in the source updates a pair that was not edited here; an edited one is a conflict, and what is here stays.

        Args:
            pairs: All pairs of the source.
            key: Column of `Pair.meta` that identifies a row in the place of the id.
            drop_vanished: Drop the pairs that came from the source and are not in it any more.
            own_source: The source is the one that the set was made from. Pairs that came from other sources then do not vanish.
            author: Name for the log.
            reason: Why, for the log.
            about: Returns what to store about the set's own source (see `about`), once all pairs were read.

        Returns:
            What was done, with every pair that vanished or could not be updated.

        Raises:
            PairsError: A row is not a valid pair, or two rows have the same id or key. Nothing changes.
        """
        report = UpdateReport(dropped=drop_vanished)
        signature = Signature(author or home.author(), "import", OWN_SOURCE if own_source or about else reason)
        self._take(((pair, None) for pair in pairs), report, signature, key=key, vanish=True, about=about)
        return report

    # Inside

    def _with_base(self) -> Iterator[tuple[Stored, Stored]]:
        """Yield every pair as it is and as its version 1."""
        with self._database.reading() as db:
            positions = list(db.execute(select(p.c.position).order_by(p.c.position)).scalars())
            for chunk in chunks(positions):
                current = [read_stored(row) for row in db.execute(_current_at(chunk))]
                bases = _bases(db, current, imports=False)
                yield from ((item, bases[item.position]) for item in sorted(current, key=lambda item: item.position))

    def _take(
        self,
        theirs: Iterable[tuple[Pair, Pair | None]],
        report: UpdateReport,
        signature: Signature,
        *,
        key: str | None,
        vanish: bool = False,
        about: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        """Take pairs from another source, each with the version that its source began with (None: that of this store)."""
        new: list[Pair] = []
        changes: list[Change] = []
        seen: set[int] = set()
        taken: set[str] = set()
        with self._database.writing() as db:
            match = _by_id if key is None else _by_key(db, key)
            for chunk in chunks(theirs):
                for pair, _ in chunk:
                    if not isinstance(pair, Pair):
                        raise PairsError(f"The source holds {json_type(pair)}; give pairs, such as lab.pairs.read_pairs gives.")
                here = match(db, [pair for pair, _ in chunk])
                bases = _bases(db, [item for item in here if item], imports=vanish)
                away = _dropped_by_import(db, [item for item in here if item and item.pair.dropped]) if vanish else set()
                for (given, base), item in zip(chunk, here):
                    pair = replace(given, tags=tidy_tags(given.tags))
                    if item is None:
                        if pair.id in taken:
                            raise PairsError(f"The source has the id {pair.id} twice; give every pair its own id.")
                        taken.add(pair.id)
                        new.append(pair)
                        continue
                    if item.position in seen:
                        raise PairsError(f"The source has the pair {pair.id} twice; give every row a key of its own.")
                    seen.add(item.position)
                    my_base = bases[item.position].pair
                    _merge_one(item, pair, base or my_base, my_base, changes, report, returns=item.position in away)
                _replace_meta(db, [(item, pair) for (pair, _), item in zip(chunk, here) if item and vanish])
            if vanish:
                gone = _vanished(db, seen, own_source=signature.reason == OWN_SOURCE)
                bases = _bases(db, gone, imports=True)
                away = _dropped_by_import(db, gone)
                gone = [item for item in gone if item.position not in away]  # otherwise it vanished before and was restored
                report.vanished = [item.pair.id for item in gone]
                report.vanished_prompts = [shorten(prompt_text(item.pair.prompt)) for item in gone[:MOST_NAMED]]
                report.vanished_edited = sum(_fields(item.pair) != _fields(bases[item.position].pair) for item in gone)
                if report.dropped:
                    changes += [Change(item, replace(item.pair, dropped=True)) for item in gone]
            edit = log.record(db, changes, signature) if changes else None
            if new:
                report.added = [pair.id for pair in log.add(db, new, signature, edit=edit)]
            if about is not None:
                set_about(db, about())
        self._complete_index()


def _difference(states: Sequence[tuple[Pair | None, Pair | None]]) -> Difference:
    result = Difference()
    for before, after in states:
        was, is_now = (pair is not None and not pair.dropped for pair in (before, after))
        if after is not None and is_now and before is None:
            result.added.append(after)
        elif after is not None and is_now and not was:
            result.restored.append(after)
        elif before is not None and was and not is_now:
            result.dropped.append(before)
        elif before is not None and after is not None and was and _fields(before) != _fields(after):
            result.changed.append((before, after))
    return result


def _fields(pair: Pair) -> tuple[Any, ...]:
    return (pair.content, pair.tools, pair.weight, pair.degree, pair.tags, pair.note, pair.dropped)


def _merge_one(
    item: Stored, theirs: Pair, their_base: Pair, my_base: Pair, changes: list[Change], report: UpdateReport, *, returns: bool
) -> None:
    """Decide what becomes of a pair that both sides have. returns: an import had dropped it, and the source has it again."""
    mine = replace(item.pair, dropped=False) if returns else item.pair
    keeps = _fields(theirs) in (_fields(mine), _fields(their_base))
    takes = not keeps and _fields(mine) in (_fields(my_base), _fields(their_base))
    after = replace(theirs, id=mine.id, version=mine.version, meta=mine.meta) if takes else mine
    changed = _fields(after) != _fields(item.pair)
    if not keeps and not takes:
        report.conflicts.append(SourceConflict(mine, theirs, my_base))
    elif not changed:
        report.unchanged += 1
    if changed:
        check_pair(after)
        # An edit made here comes back as it was, and does not count as what the source had.
        edited = after is mine and _fields(mine) != _fields(theirs)
        changes.append(Change(item, after, item.origin, item.texts) if edited else Change(item, after))
        report.updated.append(mine.id)


def _current_at(positions: Sequence[int]) -> Any:
    return pair_versions().where(p.c.position.in_(positions), v.c.version == p.c.version)


def _bases(db: Connection, items: Sequence[Stored], imports: bool) -> dict[int, Stored]:
    """Return version 1 of pairs, or (`imports`) the latest version with the source's content, by position."""
    numbers = {item.position: 1 for item in items}
    bases: dict[int, Stored] = {}
    for chunk in chunks(list(numbers)):
        if imports:
            content = (v.c.dropped == 0) & (v.c.origin == v.c.version)
            numbers |= {row[0]: row[1] for row in db.execute(_imports(chunk, func.max(e.c.after)).where(content))}
        wanted = {numbers[position] for position in chunk}
        for row in db.execute(pair_versions().where(p.c.position.in_(chunk), v.c.version.in_(wanted))):
            item = read_stored(row)
            if item.pair.version == numbers[item.position]:
                bases[item.position] = item
    return bases


def _imports(positions: Sequence[int], number: Any) -> Any:
    """Return the query of the position and of `number` over the entries of imports, with their versions."""
    made = schema.edits.c.action == "import"
    joined = e.join(schema.edits, schema.edits.c.number == e.c.edit)
    joined = joined.join(v, (v.c.position == e.c.position) & (v.c.version == e.c.after))
    return select(e.c.position, number).select_from(joined).where(e.c.position.in_(positions), made).group_by(e.c.position)


def _dropped_by_import(db: Connection, items: Sequence[Stored]) -> set[int]:
    """Return the positions of the pairs that the latest import of them has dropped."""
    dropped: set[int] = set()
    for chunk in chunks([item.position for item in items]):
        latest = _imports(chunk, func.max(e.c.after)).subquery()
        here = (v.c.position == latest.c[0]) & (v.c.version == latest.c[1])
        dropped |= set(db.execute(select(v.c.position).join_from(v, latest, here).where(v.c.dropped == 1)).scalars())
    return dropped


def _by_id(db: Connection, rows: Sequence[Pair]) -> list[Stored | None]:
    """Return the pair of this store with the id of each row."""
    ids = [escape(pair.id) for pair in rows]
    present = {
        item.pair.id: item
        for row in db.execute(pair_versions().where(p.c.id.in_(ids), v.c.version == p.c.version))
        for item in (read_stored(row),)
    }
    return [present.get(pair.id) for pair in rows]


def _by_key(db: Connection, key: str) -> Callable[[Connection, Sequence[Pair]], list[Stored | None]]:
    """Return the function that matches rows by a column of `meta`."""
    places: dict[str, int] = {}
    for position, meta, imported in db.execute(select(p.c.position, p.c.meta, p.c.imported).order_by(p.c.position)):
        value = decode(meta).get(key)
        if value is not None and imported and encode(value) in places:
            raise PairsError(f"Two pairs of the set have the {key!r} {value!r}; choose a column that is different in every row.")
        if value is not None:
            places.setdefault(encode(value), position)  # a copy made here follows its original

    def match(db: Connection, rows: Sequence[Pair]) -> list[Stored | None]:
        missing = next((pair for pair in rows if pair.meta.get(key) is None), None)
        if missing is not None:
            raise PairsError(f"The row {missing.id} of the source has no {key!r}; choose a column that every row has.")
        positions = [places.get(encode(pair.meta[key])) for pair in rows]
        present = {
            row[len(PAIR_COLUMNS)]: read_stored(row) for row in db.execute(_current_at([at for at in positions if at is not None]))
        }
        return [None if at is None else present[at] for at in positions]

    return match


def _replace_meta(db: Connection, rows: Sequence[tuple[Stored, Pair]]) -> None:
    """Take the other columns of the source for rows that were imported before."""
    changed = [{"at": item.position, "new": encode(pair.meta)} for item, pair in rows if item.pair.meta != pair.meta]
    if changed:
        db.execute(update(p).where(p.c.position == bindparam("at")).values(meta=bindparam("new")), changed)


def _vanished(db: Connection, seen: set[int], own_source: bool) -> list[Stored]:
    """Return the imported pairs, not dropped, that the source did not have; `own_source` leaves out those of other sources."""
    query = select(p.c.position).where(p.c.imported == 1, p.c.dropped == 0).order_by(p.c.position)
    if own_source:
        edits = schema.edits
        additions = select(e.c.number).join_from(e, edits, edits.c.number == e.c.edit).where(edits.c.reason == OWN_SOURCE)
        query = query.where((p.c.added == 0) | p.c.added.in_(additions))
    gone = [position for position in db.execute(query).scalars() if position not in seen]
    return [read_stored(row) for chunk in chunks(gone) for row in db.execute(_current_at(chunk).order_by(p.c.position))]
