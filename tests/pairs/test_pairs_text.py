"""RAKE on its paper's example, and degraded answers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.pairs import degrade, key_phrases

ABSTRACT = (
    "Compatibility of systems of linear constraints over the set of natural numbers. Criteria of compatibility of a system of "
    "linear Diophantine equations, strict inequations, and nonstrict inequations are considered. Upper bounds for components of "
    "a minimal set of solutions and algorithms of construction of minimal generating sets of solutions for all types of systems "
    "are given. These criteria and the corresponding algorithms for constructing a minimal supporting set of solutions can be "
    "used in solving all the considered types of systems and systems of mixed types."
)
PUBLISHED = [  # Rose et al. 2010, the nine phrases with the highest scores, as printed (one decimal)
    ("minimal generating sets", 8.7),
    ("linear diophantine equations", 8.5),
    ("minimal supporting set", 7.7),
    ("minimal set", 4.7),
    ("linear constraints", 4.5),
    ("natural numbers", 4.0),
    ("strict inequations", 4.0),
    ("nonstrict inequations", 4.0),
    ("upper bounds", 4.0),
]


def test_the_papers_example():
    phrases = key_phrases(ABSTRACT)
    assert [(p.key, round(p.score, 1)) for p in phrases[:9]] == PUBLISHED
    assert phrases[9].score < 4
    exact = {p.key: p.score for p in phrases}
    assert exact["minimal generating sets"] == pytest.approx(8 / 3 + 3 + 3)  # minimal: degree 8 in 3 occurrences
    assert exact["corresponding algorithms"] == 3.5
    assert sum(p.key == "systems" for p in phrases) == 4  # every occurrence


def test_phrase_limits():
    def keys(text):
        return {p.key for p in key_phrases(text)}

    assert keys("Red wine, white wine; the old cellar\nnew door") == {"red wine", "white wine", "old cellar", "new door"}
    assert keys("1. Well-known cook's don’t 42") == {"well-known cook's"}
    assert keys("heat 350 degrees") == {"heat 350 degrees"}
    assert key_phrases("") == key_phrases("the of and 12 _ --") == []


alphabet = "abcXY éß漢 \n\t.,!()'-19"
sentences = st.text(alphabet) | st.lists(
    st.sampled_from(["red", "wine", "the", "of", "cellar,", "door.", "\n", "3", "(old)", "big"]), max_size=30
).map(" ".join)


@given(sentences)
def test_phrases_are_spans_highest_first(text):
    phrases = key_phrases(text)
    assert all(text[p.start : p.end] == p.text and p.score >= 1 for p in phrases)
    assert [p.score for p in phrases] == sorted((p.score for p in phrases), reverse=True)
    spans = sorted((p.start, p.end) for p in phrases)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@given(sentences, st.integers(2, 6))
def test_degraded_answers(text, degrees):
    answers = degrade(text, degrees)
    if not answers:
        return
    assert len(answers) == len(set(answers)) == degrees
    assert answers[0] == text
    assert all(any(c.isalnum() for c in answer) for answer in answers)
    counts = [sum(c.isalnum() for c in answer) for answer in answers]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == degrees  # each takes more out

    def letters(answer):
        return iter([c for c in answer if not c.isspace()])

    for longer, shorter in pairwise(answers):
        rest = letters(longer)
        assert all(c in rest for c in letters(shorter))  # nothing is added or moved


def test_degrade_takes_the_highest_first():
    text = "First, preheat the oven.\n1. Mix flour (and brown sugar) with butter.\n  - Bake the cookie dough for ten minutes!"
    assert degrade(text, 4) == [
        text,
        "First, preheat the oven.\n1. (and) with butter.\n  - Bake the for ten minutes!",  # 3 of 8 phrases: 2 words each
        "First, the oven.\n1. (and) with butter.\n  - Bake the for!",  # 5 of 8
        "First, the.\n1. (and) with.\n  - the for!",
    ]


def test_degrade_limits():
    assert degrade("", 2) == degrade("of the", 2) == degrade("wine", 2) == []  # never empty
    assert degrade("the wine", 2) == ["the wine", "the"]
    assert degrade("the wine", 3) == []  # one phrase makes two answers
    assert degrade("red wine, beer", 2) == ["red wine, beer", ", beer"]  # the lowest score stays
    with pytest.raises(ValueError, match="at least 2"):
        degrade("the wine", 1)
