"""Checks of the two answers of a pair against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from .finding import Finding
from .registry import Corpus, check_named
from .texts import shorten, words

NEAR_IDENTICAL = 0.9
"""Two answers that share at least this part of their word pairs count as nearly identical."""


@check_named(
    "identical_sides",
    "Identical answers",
    "Both answers have the same words, so the pair shows a preference for spaces, case or punctuation only.",
)
def identical_sides(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs whose answers have the same words in the same order."""
    for texts in corpus.pairs:
        if texts.words["chosen"] == texts.words["rejected"] and texts.words["chosen"]:
            sentence = "The answers differ only in spaces, case or punctuation."
            yield Finding(texts.pair.id, "identical_sides", sentence, remedy="drop")


@check_named(
    "near_identical",
    "Nearly identical answers",
    "The answers share 90 % of their word pairs, so the gradients of the two sides nearly cancel, and what is left is often noise.",
)
def near_identical(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs whose answers share most of their word pairs."""
    for texts in corpus.pairs:
        first, second = texts.words["chosen"], texts.words["rejected"]
        longer = max(len(first), len(second))
        if first == second or min(len(first), len(second)) + 1 < longer * NEAR_IDENTICAL / (2 - NEAR_IDENTICAL):
            continue  # lengths so different cannot share enough
        share = _dice(first, second)
        if share >= NEAR_IDENTICAL:
            sentence = f"The answers share {share:.0%} of their word pairs{_difference(first, second)}."
            yield Finding(texts.pair.id, "near_identical", sentence, remedy="drop")


def similarity(first: str, second: str) -> float:
    """Compute the Dice coefficient of two texts' word pairs, in [0, 1]; case and punctuation are ignored, word order is not."""
    return _dice(words(first), words(second))


def _dice(first: list[str], second: list[str]) -> float:
    a, b = (Counter(pairwise(("", *side, ""))) for side in (first, second))  # with both ends, so that every text has word pairs
    return 2 * (a & b).total() / (a.total() + b.total())


def _difference(first: list[str], second: list[str]) -> str:
    """Return the words that only one answer has, as a part of a sentence."""
    a, b = Counter(first), Counter(second)
    only = [shorten(" ".join((x - y).elements()), 40) for x, y in ((a, b), (b, a))]
    if not any(only):
        return "; only the order differs"
    return "; they differ in " + " against ".join(f'"{text}"' if text else "nothing" for text in only)
