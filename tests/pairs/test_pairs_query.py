"""Queries on a pair set: searching, filtering, sorting, counting, and numbers, tags and findings beside the pairs."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lab.pairs import SORTS, BulkChange, Finding, NumberRange, Pair, PairQuery, PairsError, PairStore, pairs_from_rows

CURRENT, ALL = PairQuery(), PairQuery(state="all")


def made(number: int) -> Pair:
    answer = " ".join(["word"] * (number % 7 + 1))
    degree = None if number % 3 else (number + 1) / 40
    tags = ("even", "tenth") if number % 10 == 0 else ("even",) if number % 2 == 0 else ()
    return Pair(f"id{number:02}", f"prompt {number}", f"{answer} good", "bad", weight=(number * 7) % 5, degree=degree, tags=tags)


PAIRS = [made(number) for number in range(30)]


@pytest.fixture
def store(new_store: Callable[..., PairStore]) -> PairStore:
    store = new_store(PAIRS)
    store.drop("id04")
    store.edit("id07", chosen="edited")
    store.put_numbers("run/margin", {pair.id: math.sin(n) for n, pair in enumerate(PAIRS) if n % 4})
    return store


def key(store: PairStore, sort: str) -> Callable[[Pair], Any]:
    """The number that a pair is sorted by, or None."""
    words = {"prompt_words": "prompt", "chosen_words": "chosen", "rejected_words": "rejected"}
    if sort in words:
        return lambda pair: len(getattr(pair, words[sort]).split())
    if sort == "length_difference":
        return lambda pair: len(pair.chosen.split()) - len(pair.rejected.split())
    if sort in ("weight", "degree"):
        return lambda pair: getattr(pair, sort)
    return lambda pair: from_outside(store, pair.id).get(sort)


def from_outside(store: PairStore, id: str) -> dict[str, float]:
    """The numbers of a pair that are not its own."""
    return {name: value for name, value in store.numbers([id])[id].items() if name not in SORTS}


SORTED = ("position", "prompt_words", "chosen_words", "rejected_words", "length_difference", "weight", "degree", "run/margin")


def test_every_page_is_a_part_of_the_sorted_list(store: PairStore) -> None:
    present = [store.get(pair.id) for pair in PAIRS]
    for sort, descending, query in itertools.product(SORTED, (False, True), (CURRENT, PairQuery("GOOD"), ALL)):
        query = replace(query, sort=sort, descending=descending)
        expected = [pair for pair in present if (query.state == "all" or not pair.dropped) and query.text.lower() in pair.chosen]
        place, number, sign = expected.index, key(store, sort), -1 if descending else 1
        numbers = {pair.id: place(pair) if sort == "position" else number(pair) for pair in expected}
        order = {pair.id: (numbers[pair.id] is None, sign * (numbers[pair.id] or 0), sign * place(pair)) for pair in expected}
        expected.sort(key=lambda pair: order[pair.id])
        assert store.matching(query) == [pair.id for pair in expected], query
        for offset in range(0, len(expected) + 4, 8):
            assert store.page(query, offset, 8) == (expected[offset : offset + 8], len(expected)), query
        assert store.count(query) == len(expected)


def test_filters_are_combined(store: PairStore) -> None:
    assert store.matching(PairQuery(tags=("even", "tenth"))) == ["id00", "id10", "id20"]
    assert store.matching(PairQuery(tags=("even",), numbers=(NumberRange("weight", 1, 2),))) == [
        pair.id for pair in PAIRS if "even" in pair.tags and 1 <= pair.weight <= 2 and pair.id != "id04"
    ]
    high = PairQuery(numbers=(NumberRange("run/margin", low=0.5), NumberRange("degree", high=0.5)))
    assert store.matching(high) == [
        pair.id for n, pair in enumerate(PAIRS) if n % 4 and math.sin(n) >= 0.5 and n % 3 == 0 and pair.degree <= 0.5
    ]
    assert store.matching(PairQuery(state="edited")) == ["id07"]
    with pytest.raises(PairsError, match=r"no number 'nothing'; use .*number_names"):
        store.matching(PairQuery(numbers=(NumberRange("nothing"),)))


def test_tags_are_counted_and_changed(store: PairStore) -> None:
    assert store.tags() == {"even": 14, "tenth": 3}
    assert store.edit("id01", tags=(" b", "a", "a")).tags == ("a", "b")
    assert store.apply(["id00", "id01", "id02"], BulkChange("untag", "even")) == 2
    assert store.tags() == {"a": 1, "b": 1, "even": 12, "tenth": 3}
    store.undo()
    assert store.tags()["even"] == 14
    assert store.matching(PairQuery(tags=("a",))) == ["id01"]
    assert store.count(PairQuery(state="edited")) == 1  # a tag is no edit of what is trained on


def test_a_histogram_counts_every_pair_once(store: PairStore) -> None:
    edges, counts = store.histogram(CURRENT, "weight", bins=5)
    assert (edges, sum(counts)) == (pytest.approx([0, 0.8, 1.6, 2.4, 3.2, 4]), 29)
    weights = [pair.weight for pair in PAIRS if pair.id != "id04"]
    assert counts == [weights.count(n) for n in range(5)]
    assert sum(store.histogram(ALL, "run/margin")[1]) == sum(1 for n in range(30) if n % 4)
    assert sum(store.histogram(PairQuery("good", tags=("tenth",)), "run/margin", 3)[1]) == 1
    assert store.histogram(ALL, "rejected_words", 3) == (pytest.approx([0.5, 0.833333, 1.166667, 1.5]), [0, 30, 0])
    assert store.histogram(PairQuery(state="dropped"), "run/margin") == ([], [])
    with pytest.raises(PairsError, match="at least 1"):
        store.histogram(ALL, "weight", 0)


def test_numbers_are_replaced_and_forgotten(store: PairStore) -> None:
    store.put_numbers("é\ud800", {"id00": 1.5, "id01": math.nan, "id02": math.inf})
    assert store.number_names() == ["run/margin", "é\ud800"]
    outside = {id: from_outside(store, id) for id in ("id00", "id01", "nobody")}
    assert outside == {"id00": {"é\ud800": 1.5}, "id01": {"run/margin": math.sin(1)}, "nobody": {}}
    assert store.numbers(["id08"])["id08"]["chosen_words"] == 3
    store.put_numbers("é\ud800", {"id03": 2})
    assert store.page(PairQuery(sort="é\ud800"), limit=2)[0] == [PAIRS[3], PAIRS[0]]
    store.drop("id03")
    assert store.page(PairQuery(sort="é\ud800"), limit=1)[0] == [PAIRS[0]]
    store.forget_numbers("run/margin")
    assert store.number_names() == ["é\ud800"]
    for name, values in (("weight", {}), ("", {}), ("new", {"nobody": 1.0})):
        with pytest.raises(PairsError):
            store.put_numbers(name, values)
    assert store.number_names() == ["é\ud800"]


def test_findings_belong_to_the_texts_that_were_checked(store: PairStore) -> None:
    one, two = Finding("id01", "short", "It is short.", remedy="drop"), Finding("id02", "long", "It is long.", confidence=0.5)
    edit = Finding("id01", "long", "Cut it.", other_id="id02", remedy="edit", proposal={"chosen": "x\x00"})
    store.put_findings([one, two, edit])
    assert store.findings("id01") == [one, edit]
    assert store.findings("id03") == []
    assert store.finding_counts() == {"long": 2, "short": 1}
    assert store.matching(PairQuery(finding="long")) == ["id01", "id02"]
    assert store.matching(PairQuery(finding="any", numbers=(NumberRange("weight", 3),))) == ["id02"]
    store.edit("id01", tags=["seen"], weight=3)
    assert store.findings("id01") == [one, edit]
    store.edit("id01", chosen="other")
    assert store.findings("id01") == []
    assert store.matching(PairQuery(finding="any")) == ["id02"]
    store.undo()
    assert store.findings("id01") == [one, edit]
    store.put_findings([], checks=["long"])
    assert store.findings_of() == {"id01": [one]}
    with pytest.raises(PairsError, match="no pair 'nobody'"):
        store.put_findings([replace(one, pair_id="nobody")])


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("GOOD", {"prompt": [], "chosen": [(5, 9)], "rejected": []}),
        ("o", {"prompt": [(2, 3)], "chosen": [(1, 2), (6, 7), (7, 8)], "rejected": []}),
        ("", {"prompt": [], "chosen": [], "rejected": []}),
    ],
)
def test_hits_are_marked(store: PairStore, search: str, expected: dict[str, list[tuple[int, int]]]) -> None:
    assert store.hits("id14", search) == expected


def test_hits_keep_their_place_behind_characters_that_fold_into_several(store: PairStore) -> None:
    store.edit("id01", chosen="die große STRASSE, die Straße")
    assert store.hits("id01", "strasse")["chosen"] == [(10, 17), (23, 29)]


def test_a_long_text_is_searched_in_time_that_does_not_explode(new_store: Callable[..., PairStore]) -> None:
    long = "x" * 50_000
    store = new_store(
        pairs_from_rows(
            [
                {"prompt": name, "chosen": text, "rejected": "no"}
                for name, text in {"whole": long, "shorter": long[1:] + "z", "longer": long + "y"}.items()
            ]
        )
    )
    begin = time.monotonic()
    assert [pair.prompt for pair in store.select(PairQuery(text=long))] == ["whole", "longer"]
    assert [pair.prompt for pair in store.select(PairQuery(text=long.upper() + "y"))] == ["longer"]
    assert time.monotonic() - begin < (30 if "://" in str(store.location) else 5)  # a server compares every trigram of the text
