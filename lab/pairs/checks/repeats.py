"""Checks for repeated pairs: duplicates, near duplicates and contradictions.

Near duplicates are found by MinHash (Broder 1997) with locality-sensitive hashing, from datasketch; every candidate is then
compared by the Jaccard coefficient of its word triples.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from .finding import Finding
from .registry import Corpus, check_named
from .texts import PERMUTATIONS, PairTexts, normal

if TYPE_CHECKING:
    from .texts import Numbers

NEAR = 0.8
"""Jaccard coefficient of the word triples from which two texts count as near duplicates."""
CANDIDATE = 0.7
"""Estimated coefficient of all three texts together from which two pairs are compared."""
BANDS, ROWS = 18, 7
"""Of the locality-sensitive hashing: pairs with a coefficient of 0.8 are found with probability 0.98."""
MOST_CANDIDATES, MOST_COMPARED = 500, 20
"""Earlier pairs whose coefficient is estimated, and those compared exactly, per pair: some sets have thousands of alike ones."""

NEWER = "which a later import added"

Content = tuple[str, str, str]


@check_named(
    "duplicate",
    "Duplicate",
    "The pair repeats another one word for word, so it counts twice, and leaks if one of the two is held out.",
)
def duplicate(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs that repeat an earlier pair, or one that a later import added; spaces and case do not matter."""
    first: dict[Content, str] = {}
    for texts in corpus.pairs:
        content, id = _content(texts), texts.pair.id
        other = first.setdefault(content, id)
        if corpus.is_older(other, id):
            yield Finding(other, "duplicate", f"This pair repeats {id}, {NEWER}.", id, "drop")
            first[content] = id
        elif other != id:
            yield Finding(id, "duplicate", f"This pair repeats {other}.", other, "drop")


@check_named(
    "contradiction",
    "Contradiction",
    "Another pair has the same prompt and answers with the opposite preference, so the two cancel, and one of them is wrong.",
)
def contradiction(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs whose answers an earlier pair, or the majority of them, prefers the other way round."""
    seen: dict[Content, list[str]] = {}
    for texts in corpus.pairs:
        seen.setdefault(_content(texts), []).append(texts.pair.id)
    # Of two that stand alone, the one of the latest import is kept, else the first.
    rank = {texts.pair.id: (-corpus.imports.get(texts.pair.id, 0), number) for number, texts in enumerate(corpus.pairs)}
    for content, ids in seen.items():
        prompt, chosen, rejected = content
        opposite = seen.get((prompt, rejected, chosen), [])
        if not opposite:
            continue
        newer = min(map(rank.__getitem__, opposite)) < min(map(rank.__getitem__, ids))
        if not (len(opposite) > len(ids) or (len(opposite) == len(ids) and newer)):
            continue
        votes = f"{len(opposite)} pairs prefer" if len(opposite) > 1 else f"{opposite[0]} prefers"
        remedy = partial(Finding, remedy="swap") if len(opposite) > len(ids) else partial(Finding, remedy="drop")
        for id in ids:
            yield remedy(id, "contradiction", f"{votes} the other one of these two answers.", opposite[0])


@check_named(
    "near_duplicate",
    "Near duplicate",
    "Prompt and both answers nearly repeat another pair, so it counts almost twice, and leaks if one of the two is held out.",
)
def near_duplicate(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs that nearly repeat an earlier one, or one that a later import added, such as the text before a correction."""
    exact: set[Content] = set()
    replaced: set[str] = set()
    index = NearIndex()
    for texts in corpus.pairs:
        content = _content(texts)
        if content in exact:
            continue
        exact.add(content)
        if (near := index.match(texts)) is not None:
            other, share = near
            id, shares = texts.pair.id, f"This pair shares {share:.0%} of its word triples with"
            if not corpus.is_older(other, id):
                yield Finding(id, "near_duplicate", f"{shares} {other}.", other, "drop")
            elif other not in replaced:
                replaced.add(other)
                yield Finding(other, "near_duplicate", f"{shares} {id}, {NEWER}.", id, "drop")
        index.add(texts)


class NearIndex:
    """Index of pairs by MinHash, to find those whose prompt and answers nearly repeat another pair's."""

    def __init__(self) -> None:
        from datasketch import MinHashLSH

        self._index = MinHashLSH(params=(BANDS, ROWS), num_perm=PERMUTATIONS)
        self._pairs: list[PairTexts] = []

    def add(self, texts: PairTexts) -> None:
        """Add a pair."""
        self._index.insert(len(self._pairs), texts.min_hash, check_duplication=False)
        self._pairs.append(texts)

    def match(self, texts: PairTexts) -> tuple[str, float] | None:
        """Return (id, least share of any of the three texts) of the most similar near duplicate, or None."""
        near: list[tuple[float, int]] = []
        for number in sorted(self._index.query(texts.min_hash))[-MOST_CANDIDATES:]:
            estimate = texts.min_hash.jaccard(self._pairs[number].min_hash)
            if estimate >= CANDIDATE:
                near.append((estimate, -number))
        best: tuple[str, float] | None = None
        for _, number in sorted(near, reverse=True)[:MOST_COMPARED]:
            other = self._pairs[-number]
            share = min(map(jaccard, texts.triples.values(), other.triples.values()))
            if share >= NEAR and (best is None or share > best[1]):
                best = other.pair.id, share
        return best


def jaccard(first: Numbers, second: Numbers) -> float:
    """Compute the Jaccard coefficient of two sets of numbers without repetition, in [0, 1]; 1 for two empty ones."""
    import numpy as np

    shared = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - shared
    return shared / union if union else 1.0


def _content(texts: PairTexts) -> Content:
    return normal(texts.prompt), normal(texts.chosen), normal(texts.rejected)
