"""Pages, searches and counts of a pair set, sorted and filtered by the database."""

from __future__ import annotations

import threading
import weakref
from array import array
from collections import OrderedDict
from typing import Any

from sqlalchemy import Connection, Float, Integer, cast, func, select

from lab.pairs.pair import Pair, PairsError, answer_text, prompt_text
from lab.pairs.query import SORTS, PairQuery

from . import counts, log, schema, selection
from .database import Database, chunks
from .reading import PairReader, pairs_at
from .records import unescape
from .search import Indexer, hits, share_indexed

REMEMBERED = 8
"""Results of queries that are kept, so that turning pages does not search again."""


class PairPages(PairReader):
    """A store of pairs that can be searched."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._results: OrderedDict[object, Any] = OrderedDict()
        self._results_lock = threading.Lock()
        self._indexer: Indexer | None = None
        self._complete_index()

    def page(self, query: PairQuery = PairQuery(), offset: int = 0, limit: int = 25) -> tuple[list[Pair], int]:  # noqa: B008
        """Return `limit` of the matching pairs from number `offset` (from 0) on, and how many match in total.

        Args:
            query: What to search, filter and sort by.
            offset: Number of the first pair of the page.
            limit: Pairs of the page.

        Raises:
            PairsError: The query names a state or a number that there is not, or the page begins below 0.
        """
        if offset < 0 or limit < 0:
            raise PairsError(f"A page cannot start at {offset} with {limit} pairs; give numbers from 0.")
        with self._database.reading() as db:
            if not selection.is_plain(query):
                positions = self._matching(db, query)
                return pairs_at(db, positions[offset : offset + limit]), len(positions)
            part_counts = self._part_counts(db, query)
            numbers: list[int] = []
            for part, count in zip(selection.sorted_parts(db, query), part_counts):
                wanted = min(limit - len(numbers), count - offset)
                if wanted > 0 and offset > count // 2:  # nearer to the end: read from there
                    numbers += reversed(db.execute(part.rows_from_end(count - offset - wanted, wanted)).scalars().all())
                elif wanted > 0:
                    numbers += db.execute(part.rows(offset, wanted)).scalars()
                offset = max(0, offset - count)
            return pairs_at(db, numbers), sum(part_counts)

    def matching(self, query: PairQuery) -> list[str]:
        """Return the ids of all matching pairs, in the order of the query."""
        with self._database.reading() as db:
            positions = self._matching(db, query)
            p = schema.pairs
            if len(positions) < 10_000:
                ids = {
                    row[0]: row[1]
                    for c in chunks(positions)
                    for row in db.execute(select(p.c.position, p.c.id).where(p.c.position.in_(c)))
                }
            else:  # one query for all of them is faster than many
                ids = {row[0]: row[1] for row in db.execute(select(p.c.position, p.c.id))}
        return [unescape(ids[position]) for position in positions]

    def select(self, query: PairQuery) -> list[Pair]:
        """Return all matching pairs, in the order of the set."""
        with self._database.reading() as db:
            return pairs_at(db, sorted(self._matching(db, query)))

    def count(self, query: PairQuery) -> int:
        """Return how many pairs match."""
        with self._database.reading() as db:
            if selection.is_plain(query):
                return sum(self._part_counts(db, query))
            return len(self._matching(db, query))

    def find(self, search: str) -> list[str]:
        """Return the ids of all pairs, dropped or not, in order, with this text, in any case, in a prompt or answer, or this id."""
        return self.matching(PairQuery(text=search, state="all"))

    def hits(self, id: str, search: str) -> dict[str, list[tuple[int, int]]]:
        """Return where the texts of a pair, as `prompt_text` and `answer_text` give them, have a text in any case.

        Returns:
            (start, end) of every match, in characters, by field ("prompt", "chosen", "rejected").
        """
        pair = self.get(id)
        shown = {"prompt": prompt_text(pair.prompt), "chosen": answer_text(pair.chosen), "rejected": answer_text(pair.rejected)}
        return {name: hits(text, search) for name, text in shown.items()}

    def tags(self) -> dict[str, int]:
        """Return the number of pairs with each tag, without dropped ones, by tag in alphabetical order."""
        t, p = schema.tags, schema.pairs
        joined = select(t.c.tag, func.count()).join_from(t, p, p.c.position == t.c.position)
        with self._database.reading() as db:
            rows = db.execute(joined.where(p.c.dropped == 0).group_by(t.c.tag)).all()
        return dict(sorted((unescape(tag), count) for tag, count in rows))

    def histogram(self, query: PairQuery, name: str, bins: int = 30) -> tuple[list[float], list[int]]:
        """Return the distribution of a number over the matching pairs, counted by the database.

        Args:
            query: Which pairs; those without the number, or with an infinite one, are left out.
            name: A number that the set can be sorted by; see `PairQuery.sort`.
            bins: Number of bins of equal width, at least 1.

        Returns:
            (edges, counts): `bins + 1` edges, rising, and the pairs of every bin; ([], []) without any number.

        Raises:
            PairsError: There is no such number, or no bin.
        """
        if bins < 1:
            raise PairsError(f"A histogram cannot have {bins} bins; give at least 1.")
        with self._database.reading() as db:
            value = selection.values(db, query, name).c.value
            finite = value.between(-1e300, 1e300)
            low, high = db.execute(select(func.min(value), func.max(value)).where(finite)).one()
            if low is None:
                return [], []
            low, high = (low - 0.5, high + 0.5) if low == high else (float(low), float(high))
            place = (cast(value, Float) - low) / (high - low) * bins
            bin_number = cast(place if self._database.sqlite else func.floor(place), Integer)  # SQLite's cast cuts the fraction off
            rows = db.execute(select(bin_number, func.count()).where(finite).group_by(bin_number)).all()
        heights = [0] * bins
        for number, count in rows:
            heights[min(max(number, 0), bins - 1)] += count  # the highest value belongs to the last bin
        return [low + (high - low) * edge / bins for edge in range(bins + 1)], heights

    @property
    def search_ready(self) -> float:
        """Share of the pairs in the search index, from 0 to 1; the others are searched too, by a slower scan."""
        with self._database.reading() as db:
            return share_indexed(db)

    def wait_for_search(self, seconds: float | None = None) -> bool:
        """Wait until the search index is complete; return whether it is. A new set of a million pairs takes some minutes."""
        if self._indexer is not None:
            self._indexer.wait(seconds)
        return self.search_ready == 1

    def close(self) -> None:
        """Close the file in every thread; no call may be in progress. A later call opens it again."""
        if self._indexer is not None:
            self._indexer.stop()
        super().close()

    # Inside

    def _complete_index(self) -> None:
        """Index in the background what is not indexed yet."""
        if self.search_ready < 1:
            self._indexer = Indexer(self.location)
            weakref.finalize(self, self._indexer.stop).atexit = False

    def _matching(self, db: Connection, query: PairQuery) -> array[int]:
        """Return the positions of all matching pairs, in order."""

        def search() -> array[int]:
            statement = selection.ordered_positions(db, query)
            return array("q", db.execute(statement).scalars())

        result: array[int] = self._remembered(db, ("positions", query), search)
        return result

    def _part_counts(self, db: Connection, query: PairQuery) -> list[int]:
        """Return the number of pairs in each part of a plain query; see `selection.sorted_parts`."""
        total = counts.count(db, counts.PAIRS, selection.state_condition(schema.counts.c, query.state))
        if query.sort in SORTS and query.sort != "degree":
            return [total]
        if query.sort != "degree":
            name = selection.name_number(db, query.sort)
            with_number = counts.count(db, name, selection.state_condition(schema.counts.c, query.state))
        else:
            first = selection.sorted_parts(db, query)[0].positions.subquery()
            known = lambda: int(db.execute(select(func.count()).select_from(first)).scalar_one())  # noqa: E731
            with_number = self._remembered(db, ("degree", query.state), known)
        return [with_number, total - with_number]

    def _remembered(self, db: Connection, key: object, compute: Any) -> Any:
        """Return a result, computed again only after the set or its numbers have changed."""
        marks = db.execute(select(schema.about.c.value).where(schema.about.c.key == "marks")).scalar_one()
        key = (key, log.latest(db), marks)
        with self._results_lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = compute()
        with self._results_lock:
            self._results[key] = result
            while len(self._results) > REMEMBERED:
                self._results.popitem(last=False)
        return result
