"""A review: the queue of pairs to judge, the place in it, and how fast it goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st

from lab.pairs.query import PairQuery

KEY = "pairs.review"
"""In the session: the review in progress."""

LONGEST_PAUSE = 120.0
"""Seconds; a longer time for one pair is a pause, and does not count for the estimate."""


@dataclass
class Review:
    """The pairs that matched when the review began, in their order then: a judged pair does not leave the queue.

    Attributes:
        store: Path of the pair set.
        query: What the queue holds.
        ids: The queue.
        before: How many of its pairs were reviewed before.
        place: Index of the pair that is shown; the length of the queue at its end.
        judged: Ids of the judged pairs.
        seconds: Time that each judgement took.
        began: When the shown pair was opened, of `time.monotonic`.
        said: What the last key did.
        writing: The field that is open: "edit", "tag", "note" or "".
    """

    store: str
    query: PairQuery
    ids: Sequence[str]
    before: int = 0
    place: int = 0
    judged: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    said: str = ""
    writing: str = ""

    @property
    def id(self) -> str | None:
        """Return the pair that is shown; None at the end of the queue."""
        return self.ids[self.place] if self.place < len(self.ids) else None

    @property
    def remaining_seconds(self) -> float | None:
        """Return the time that the rest will take at the median pace; None before three judgements."""
        if len(self.seconds) < 3:
            return None
        return statistics.median(self.seconds) * (len(self.ids) - len(self.judged))

    def judge(self, said: str) -> None:
        """Count the shown pair as judged and go on to the next one."""
        if self.id is not None:
            self.judged.add(self.id)
        if (took := time.monotonic() - self.began) < LONGEST_PAUSE:
            self.seconds.append(took)
        self.go(1)
        self.said = said

    def go(self, by: int) -> None:
        """Go forward or back by some pairs."""
        self.place = min(max(0, self.place + by), len(self.ids))
        self.began, self.writing, self.said = time.monotonic(), "", ""

    def return_to(self, id: str) -> None:
        """Show a pair of the queue again, as not judged."""
        if id in self.ids:
            self.place = list(self.ids).index(id)
            self.judged.discard(id)
        self.began, self.writing = time.monotonic(), ""


def current(store: str, query: PairQuery) -> Review | None:
    """Return the review of these pairs of a set in this session; None if another search or filter was reviewed."""
    review: Review | None = st.session_state.get(KEY)
    return review if review is not None and (review.store, review.query) == (store, query) else None


def begin(store: str, query: PairQuery, ids: Sequence[str], before: int) -> Review:
    """Begin a review of the pairs that match a query, some of which were reviewed before."""
    review = st.session_state[KEY] = Review(store, query, list(ids), before)
    return review
