"""Queries on a pair set as SQL: which pairs, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Select, Subquery, and_, exists, literal_column, select, union_all

from lab.pairs.pair import PairsError
from lab.pairs.query import SORTS, NumberRange, PairQuery, State

from . import schema
from .records import escape
from .search import containing

p, n = schema.pairs, schema.numbers


def state_condition(columns: Any, state: State) -> ColumnElement[bool]:
    """Return the condition of a state on columns `dropped` and `edited`."""
    conditions: dict[str, ColumnElement[bool]] = {
        "current": columns.dropped == 0,
        "edited": (columns.edited == 1) & (columns.dropped == 0),
        "dropped": columns.dropped == 1,
        "all": columns.dropped >= 0,
    }
    if state not in conditions:
        raise PairsError(f"There are no pairs in the state {state!r}; use {', '.join(get_args(State))}.")
    return conditions[state]


def name_number(db: Connection, name: str) -> int:
    """Return the number of a name of numbers. Raises PairsError for an unknown one."""
    number = db.execute(select(schema.number_names.c.number).where(schema.number_names.c.name == escape(name))).scalar()
    if number is None:
        known = ", ".join(repr(other) for other in SORTS)
        raise PairsError(f"The pairs have no number {name!r}; use {known} or one of number_names().")
    return int(number)


def is_plain(query: PairQuery) -> bool:
    """Return whether a query filters by state only, so that an index gives any page at once."""
    return not (query.text or query.tags or query.without_tags or query.finding or query.numbers)


def condition(db: Connection, query: PairQuery) -> ColumnElement[bool]:
    """Return the condition of a query on rows of `pairs`."""
    parts = [state_condition(p.c, query.state)]
    parts += [p.c.position.in_(_tagged(tag)) for tag in query.tags]
    parts += [p.c.position.not_in(_tagged(tag)) for tag in query.without_tags]
    parts += [_in_range(db, limits) for limits in query.numbers]
    if query.finding:
        f = schema.findings
        current = [f.c.position == p.c.position, f.c.texts == p.c.texts]
        parts.append(
            exists(select(f.c.number).where(*current, *([] if query.finding == "any" else [f.c.name == escape(query.finding)])))
        )
    if query.text:
        named = select(p.c.position).where(p.c.id == escape(query.text.strip()))
        parts.append(p.c.position.in_(union_all(*containing(db, query.text), named)))  # an OR would read every pair
    return and_(*parts)


def _tagged(tag: str) -> Select[tuple[int]]:
    return select(schema.tags.c.position).where(schema.tags.c.tag == escape(tag))


def _in_range(db: Connection, limits: NumberRange) -> ColumnElement[bool]:
    built_in = limits.name in schema.SORTED
    column = p.c[limits.name] if built_in else n.c.value
    bounds: list[ColumnElement[bool]] = [column.is_not(None)]
    bounds += [] if limits.low is None else [column >= limits.low]
    bounds += [] if limits.high is None else [column <= limits.high]
    if built_in:
        return and_(*bounds)
    return p.c.position.in_(select(n.c.position).where(n.c.name == name_number(db, limits.name), *bounds))


def ordered_positions(db: Connection, query: PairQuery) -> Select[Any]:
    """Return the query of the positions of all matching pairs, in order; pairs without the number sorted by come last."""
    matching = select(p.c.position).where(condition(db, query))
    if query.sort == "position":
        return matching.order_by(p.c.position.desc() if query.descending else p.c.position)
    if query.sort == "recent":
        return matching.order_by(p.c.touched.desc(), p.c.position)
    key: ColumnElement[Any]
    if query.sort in schema.SORTED:
        key = p.c[query.sort]
    else:
        number = name_number(db, query.sort)
        matching = matching.join_from(p, n, (n.c.position == p.c.position) & (n.c.name == number), isouter=True)
        key = n.c.value
    order = [key.desc(), p.c.position.desc()] if query.descending else [key, p.c.position]
    return matching.order_by(key.is_(None), *order)


@dataclass(frozen=True)
class Part:
    """A part of the list of a plain query, covered by an index: positions and the columns that order them, True for downwards."""

    positions: Select[Any]
    order: tuple[tuple[ColumnElement[Any], bool], ...]

    def rows(self, offset: int, limit: int) -> Select[Any]:
        """Return the query of some positions in order."""
        return self._ordered(False).offset(offset).limit(limit)

    def rows_from_end(self, offset: int, limit: int) -> Select[Any]:
        """Return the query of some positions in the opposite order, which reads the same index from its other end."""
        return self._ordered(True).offset(offset).limit(limit)

    def _ordered(self, opposite: bool) -> Select[Any]:
        return self.positions.order_by(*(column.desc() if down != opposite else column.asc() for column, down in self.order))


def sorted_parts(db: Connection, query: PairQuery) -> list[Part]:
    """Return the parts of the list of a plain query, in order: the pairs with the number sorted by, then those without."""
    here, down = state_condition(p.c, query.state), query.descending
    in_order = ((p.c.position, down),)
    if query.sort == "position":
        return [Part(select(p.c.position).where(here), in_order)]
    if query.sort == "recent":
        return [Part(select(p.c.position).where(here), ((p.c.touched, True), (p.c.position, False)))]
    if query.sort in schema.SORTED:
        key = p.c[query.sort]
        order = ((key, down), (p.c.position, down))
        if query.sort != "degree":
            return [Part(select(p.c.position).where(here), order)]
        with_degree, without = (select(p.c.position).where(here, has) for has in (key.is_not(None), key.is_(None)))
        return [Part(with_degree, order), Part(without, in_order)]
    number = name_number(db, query.sort)
    having = select(n.c.position).where(n.c.name == number, state_condition(n.c, query.state))
    known = exists(select(literal_column("1")).where(n.c.name == number, n.c.position == p.c.position))
    return [Part(having, ((n.c.value, down), (n.c.position, down))), Part(select(p.c.position).where(here, ~known), in_order)]


def values(db: Connection, query: PairQuery, name: str) -> Subquery:
    """Return the query of a number's values in the matching pairs, in column `value`."""
    matching = condition(db, query)
    if name in schema.SORTED:
        return select(p.c[name].label("value")).where(matching, p.c[name].is_not(None)).subquery()
    number = name_number(db, name)
    if is_plain(query):
        return select(n.c.value.label("value")).where(n.c.name == number, state_condition(n.c, query.state)).subquery()
    joined = (n.c.position == p.c.position) & (n.c.name == number)
    return select(n.c.value.label("value")).join_from(p, n, joined).where(matching).subquery()
