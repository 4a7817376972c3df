"""Findings and numbers of checks and runs about pairs, kept beside them, so that the database sorts and filters by them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Float, Integer, cast, delete, func, insert, select, update

from lab.pairs.checks import Finding, LengthBias, length_bias_of
from lab.pairs.pair import PairsError
from lab.pairs.query import SORTS

from . import log, schema
from .counts import recount
from .database import chunks, insert_rows
from .editing import PairEditor
from .records import decode, encode, escape, unescape

p, n, names, f = schema.pairs, schema.numbers, schema.number_names, schema.findings


class PairAnnotations(PairEditor):
    """A store of pairs with numbers from runs and findings of checks."""

    def put_numbers(self, name: str, values: Mapping[str, float]) -> None:
        """Store a number of some pairs under a name, in the place of those stored under it before.

        Args:
            name: For example "first/rewards/margins": a term of a run. Not a name of `lab.pairs.SORTS`.
            values: Number by pair id. NaN counts as no number.

        Raises:
            PairsError: An id is unknown, or the name is taken.
        """
        if not name or name in SORTS:
            raise PairsError(f"{name!r} cannot name numbers of pairs; give another name.")
        given = {id: as_float(id, value) for id, value in values.items()}
        with self._database.writing() as db:
            places = _places(db, given)
            number = db.execute(select(names.c.number).where(names.c.name == escape(name))).scalar()
            if number is None:
                number = int(db.execute(select(func.coalesce(func.max(names.c.number), 0))).scalar_one()) + 1
                db.execute(insert(names).values(number=number, name=escape(name)))
            else:
                db.execute(delete(n).where(n.c.name == number))
            rows = ((number, *places[id], value) for id, value in given.items() if not math.isnan(value))
            for chunk in chunks(rows):
                insert_rows(db, n, [(name, position, value, dropped, edited) for name, position, dropped, edited, value in chunk])
            recount(db, number)
            _mark(db)

    def forget_numbers(self, name: str) -> None:
        """Remove the numbers stored under a name, if there are any."""
        with self._database.writing() as db:
            number = db.execute(select(names.c.number).where(names.c.name == escape(name))).scalar()
            if number is not None:
                db.execute(delete(n).where(n.c.name == number))
                db.execute(delete(names).where(names.c.number == number))
                recount(db, number)
                _mark(db)

    def number_names(self) -> list[str]:
        """Return the names that numbers are stored under, in alphabetical order."""
        with self._database.reading() as db:
            return sorted(unescape(name) for name in db.execute(select(names.c.name)).scalars())

    def numbers(self, ids: Iterable[str]) -> dict[str, dict[str, float]]:
        """Return the numbers of some pairs that a set can be sorted by: {id: {name: number}}; unknown ids have none."""
        result: dict[str, dict[str, float]] = {id: {} for id in ids}
        with self._database.reading() as db:
            named = {row[0]: row[1] for row in db.execute(select(names.c.number, names.c.name))}
            for chunk in chunks(result):
                own = [p.c[name] for name in schema.SORTED]
                places = {}
                for position, id, *values in db.execute(select(p.c.position, p.c.id, *own).where(p.c.id.in_(map(escape, chunk)))):
                    places[position] = id
                    result[unescape(id)] |= {name: value for name, value in zip(schema.SORTED, values) if value is not None}
                here = select(n.c.position, n.c.name, n.c.value).where(n.c.name.in_(named), n.c.position.in_(places))
                for position, number, value in db.execute(here):
                    result[unescape(places[position])][unescape(named[number])] = value
        return result

    def length_bias(self) -> LengthBias | None:
        """Return how far the length of an answer tells which one is chosen, over the pairs that are not dropped; None of no pair.

        Lengths are those that the list sorts by: they include the tool calls and the reasoning of an answer.
        """
        difference = p.c.length_difference
        sums = [func.sum(cast(condition, Integer)) for condition in (difference > 0, difference != 0)]
        means = [cast(func.sum(column), Float) / func.count() for column in (p.c.chosen_words, p.c.rejected_words)]
        with self._database.reading() as db:
            count, *values = db.execute(select(func.count(), *sums, *means).where(p.c.dropped == 0)).one()
        return length_bias_of(count, *values) if count else None

    def put_findings(self, findings: Iterable[Finding], *, checks: Iterable[str] = ()) -> None:
        """Store the findings of some checks, in the place of all earlier findings of the same checks.

        A finding belongs to the texts that were checked: once they are edited it is not returned any more, until an undo brings the
        texts back.

        Args:
            findings: Findings on pairs of this set.
            checks: Further checks that ran and found nothing.

        Raises:
            PairsError: A finding names a pair that is not in this set.
        """
        findings = list(findings)
        with self._database.writing() as db:
            places = _texts(db, [finding.pair_id for finding in findings])
            for chunk in chunks({*checks, *(finding.check for finding in findings)}):
                db.execute(delete(f).where(f.c.name.in_([escape(name) for name in chunk])))
            number = int(db.execute(select(func.coalesce(func.max(f.c.number), 0))).scalar_one()) + 1
            rows = [
                (number + offset, *places[finding.pair_id], escape(finding.check), encode(finding.as_row()))
                for offset, finding in enumerate(findings)
            ]
            insert_rows(db, f, rows)
            _mark(db)

    def findings(self, id: str) -> list[Finding]:
        """Return what the checks found in a pair as it is now."""
        return self.findings_of([id]).get(id, [])

    def findings_of(self, ids: Iterable[str] | None = None) -> dict[str, list[Finding]]:
        """Return what the checks found in some pairs as they are now, by id; by default in all pairs that are not dropped."""
        query = select(f.c.finding).join_from(f, p, (f.c.position == p.c.position) & (f.c.texts == p.c.texts)).order_by(f.c.number)
        with self._database.reading() as db:
            if ids is None:
                rows = list(db.execute(query.where(p.c.dropped == 0)).scalars())
            else:
                wanted = [escape(id) for id in ids]
                rows = [row for chunk in chunks(wanted) for row in db.execute(query.where(p.c.id.in_(chunk))).scalars()]
        result: dict[str, list[Finding]] = {}
        for row in rows:
            finding = Finding(**decode(row))
            result.setdefault(finding.pair_id, []).append(finding)
        return result

    def finding_counts(self) -> dict[str, int]:
        """Return the number of pairs, without dropped ones, in which each check found something, by its name."""
        current = (f.c.position == p.c.position) & (f.c.texts == p.c.texts)
        query = select(f.c.name, func.count(f.c.position.distinct())).join_from(f, p, current).where(p.c.dropped == 0)
        with self._database.reading() as db:
            return dict(sorted((unescape(name), count) for name, count in db.execute(query.group_by(f.c.name))))


def as_float(id: str, value: Any) -> float:
    """Return a number of a pair as a float. Raises PairsError where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise PairsError(f"The number of pair {id} is {str(value)[:40]!r}; give a number.") from None


def _places(db: Connection, ids: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Return (position, dropped, edited) by id. Raises PairsError for an unknown id."""
    return _columns(db, ids, (p.c.position, p.c.dropped, p.c.edited))


def _texts(db: Connection, ids: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return (position, number of the texts) by id. Raises PairsError for an unknown id."""
    return _columns(db, ids, (p.c.position, p.c.texts))


def _columns(db: Connection, ids: Iterable[str], columns: tuple[Any, ...]) -> dict[str, Any]:
    wanted = list(dict.fromkeys(ids))
    rows: dict[str, tuple[Any, ...]] = {}
    for chunk in chunks(wanted):
        for id, *values in db.execute(select(p.c.id, *columns).where(p.c.id.in_([escape(id) for id in chunk]))):
            rows[unescape(id)] = tuple(values)
    if missing := next((id for id in wanted if id not in rows), None):
        raise PairsError(log.unknown(missing))
    return rows


def _mark(db: Connection) -> None:
    """Count a change of numbers or findings, after which remembered results of queries do not hold."""
    value = cast(cast(schema.about.c.value, Integer) + 1, schema.about.c.value.type)
    db.execute(update(schema.about).where(schema.about.c.key == "marks").values(value=value))
