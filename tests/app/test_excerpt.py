"""Excerpts of texts with the places of a searched text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.text.excerpt import excerpt
from lab.pairs.store.search import hits

TEXTS = some.text(some.characters(blacklist_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "search", "expected"),
    [
        ("Sugar, sugar", "SUGAR", [(0, 5), (7, 12)]),
        ("Straße", "strasse", [(0, 6)]),
        ("ẞß", "ss", [(0, 1), (1, 2)]),
        ("aaaa", "aa", [(0, 2), (2, 4)]),
        ("plain", "", []),
        ("İstanbul", "stan", [(1, 5)]),
    ],
)
def test_hits_are_places_of_the_text_itself(text: str, search: str, expected: list[tuple[int, int]]) -> None:
    assert hits(text, search) == expected


@given(TEXTS, TEXTS)
def test_every_hit_folds_to_the_searched_text(text: str, search: str) -> None:
    spans = hits(text, search)
    assert bool(spans) == (bool(search) and search.casefold() in text.casefold())
    for first, last in spans:
        assert search.casefold() in text[first:last].casefold()
    assert all(one[1] <= other[0] or one[1] - 1 == other[0] for one, other in pairwise(spans))


def test_an_excerpt_begins_near_the_first_hit() -> None:
    text = "word " * 100 + "needle and more"
    shown, spans = excerpt(text, "NEEDLE", 60)
    assert shown.startswith("… ")
    assert len(shown) <= 62
    assert [shown[first:last] for first, last in spans] == ["needle"]
    assert excerpt("short needle", "needle", 60) == ("short needle", [(6, 12)])
    assert excerpt("no hit " * 50, "needle", 20)[0] == ("no hit " * 3)[:20].strip()


@given(TEXTS, TEXTS, some.integers(30, 80))
def test_an_excerpt_has_one_line_and_a_limit(text: str, search: str, length: int) -> None:
    shown, spans = excerpt(text, search, length)
    assert len(shown) <= length + 2
    assert "\n" not in shown
    assert all(0 <= first < last <= len(shown) for first, last in spans)
