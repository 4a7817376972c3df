"""Number of pairs in each state, kept up to date: counting a million rows takes longer than a page may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal, select, update

from . import schema
from .database import chunks

PAIRS = 0
"""Name of the counts of the pairs themselves; other names are those of numbers."""
Tally = Counter[tuple[int, int, int]]
"""Number of rows by (name, dropped, edited)."""
c, p, n = schema.counts, schema.pairs, schema.numbers


def tally_pairs(states: Iterable[tuple[int, int]]) -> Tally:
    """Count pairs by their (dropped, edited)."""
    return Counter((PAIRS, dropped, edited) for dropped, edited in states)


def tally_numbers(db: Connection, positions: Sequence[int]) -> Tally:
    """Count the numbers of some pairs."""
    names = list(db.execute(select(schema.number_names.c.number)).scalars())
    result: Tally = Counter()
    for chunk in chunks(positions) if names else ():
        rows = select(n.c.name, n.c.dropped, n.c.edited, func.count()).where(n.c.name.in_(names), n.c.position.in_(chunk))
        grouped = db.execute(rows.group_by(n.c.name, n.c.dropped, n.c.edited))
        result.update({(name, dropped, edited): count for name, dropped, edited, count in grouped})
    return result


def shift(db: Connection, before: Tally, after: Tally) -> None:
    """Store the counts after some rows have changed, from tallies of these rows before and after the change."""
    for key in before.keys() | after.keys():
        change = after[key] - before[key]
        here = and_(*(column == value for column, value in zip((c.c.name, c.c.dropped, c.c.edited), key)))
        if change and not db.execute(update(c).where(here).values(count=c.c.count + change)).rowcount:
            db.execute(insert(c).values(name=key[0], dropped=key[1], edited=key[2], count=change))


def recount(db: Connection, name: int) -> None:
    """Count all pairs (name PAIRS) or all numbers of a name."""
    db.execute(delete(c).where(c.c.name == name))
    rows = select(literal(name), p.c.dropped, p.c.edited, func.count()).group_by(p.c.dropped, p.c.edited)
    if name != PAIRS:
        rows = select(n.c.name, n.c.dropped, n.c.edited, func.count()).where(n.c.name == name)
        rows = rows.group_by(n.c.name, n.c.dropped, n.c.edited)
    db.execute(insert(c).from_select(["name", "dropped", "edited", "count"], rows))


def count(db: Connection, name: int, state: ColumnElement[bool]) -> int:
    """Return the number of rows of a name in a state, a condition on `schema.counts`."""
    return int(db.execute(select(func.coalesce(func.sum(c.c.count), 0)).where(c.c.name == name, state)).scalar_one())
