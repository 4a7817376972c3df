"""Checks of a set of preference pairs before training: duplicates, contradictions, leaks, and length bias."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING

from lab.pairs.pair import Pair, answer_text, to_json

from .finding import Finding

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [field.name for field in fields(Finding)]
NEAR_IDENTICAL = 0.9
"""Two answers that share at least this part of their word pairs count as nearly identical."""
SHORTEST_LEAK = 20
"""Characters; a shorter prompt may occur in an answer by chance."""

_TURN = re.compile(
    r"(?:^|\n)\s*(?:Human|User|Assistant|System)\s*:|<\|(?:im_start|im_end|eot_id|start_header_id|user|assistant)\|>"
)


def check(pairs: Iterable[Pair]) -> pd.DataFrame:
    """Check pairs; returns one row per finding, with the fields of `Finding` as columns.

    Checks: "duplicate" (a repeated pair), "contradiction" (same prompt and answers, opposite preference), "near_identical"
    (answers that share 90 % of their word pairs), "prompt_leak" (an answer repeats the prompt), "turn_marker" (an answer
    continues with another turn of the conversation).
    """
    import pandas as pd

    return pd.DataFrame([finding.as_row() for finding in findings(pairs)], columns=COLUMNS)


def findings(pairs: Iterable[Pair]) -> list[Finding]:
    """Return what the checks find, without importing pandas."""
    pairs = list(pairs)
    checks: list[Callable[[Sequence[Pair]], Iterator[Finding]]] = [_repeated, _near_identical, _leaks, _turn_markers]
    return [finding for run_check in checks for finding in run_check(pairs)]


def _repeated(pairs: Sequence[Pair]) -> Iterator[Finding]:
    first: dict[tuple[str, str, str], str] = {}
    for pair in pairs:
        prompt = to_json(pair.prompt)
        same, opposite = (prompt, pair.chosen, pair.rejected), (prompt, pair.rejected, pair.chosen)
        if same in first:
            yield Finding(pair.id, "duplicate", f"This pair repeats {first[same]}.", first[same], "drop")
        if opposite in first:
            yield Finding(
                pair.id, "contradiction", f"{first[opposite]} prefers the other one of these two answers.", first[opposite], "none"
            )
        first.setdefault(same, pair.id)


def _near_identical(pairs: Sequence[Pair]) -> Iterator[Finding]:
    for pair in pairs:
        share = similarity(answer_text(pair.chosen), answer_text(pair.rejected))
        if share >= NEAR_IDENTICAL:
            yield Finding(pair.id, "near_identical", f"The answers share {share:.0%} of their word pairs.", remedy="drop")


def similarity(first: str, second: str) -> float:
    """Compute the Dice coefficient of two texts' word pairs, in [0, 1]; case and punctuation are ignored, word order is not."""
    a, b = _word_pairs(first), _word_pairs(second)
    return 2 * (a & b).total() / (a.total() + b.total())


def _word_pairs(text: str) -> Counter[tuple[str, str]]:
    words = ["", *re.findall(r"\w+", text.casefold()), ""]  # both ends are included, so that every text has word pairs
    return Counter(pairwise(words))


def _leaks(pairs: Sequence[Pair]) -> Iterator[Finding]:
    for pair in pairs:
        text = pair.prompt if isinstance(pair.prompt, str) else pair.prompt[-1]["content"]
        needle = _normal(text)
        for side in ("chosen", "rejected"):
            if len(needle) >= SHORTEST_LEAK and needle in _normal(answer_text(getattr(pair, side))):
                yield Finding(pair.id, "prompt_leak", f"{side} repeats the prompt.", remedy="drop")


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _turn_markers(pairs: Sequence[Pair]) -> Iterator[Finding]:
    for pair in pairs:
        for side in ("chosen", "rejected"):
            match = _TURN.search(answer_text(getattr(pair, side)))
            if match:
                yield Finding(
                    pair.id, "turn_marker", f"{side} contains {match.group().strip()!r}, which begins another turn.", remedy="drop"
                )


@dataclass(frozen=True)
class LengthBias:
    """Statistics of whether the chosen answers are the longer ones.

    pairs:         Number of pairs.
    chosen_words, rejected_words: Mean lengths in words.
    chosen_longer: Share of the pairs of unequal length whose chosen answer is longer (0.5 if there are none).
    z:             Sign test of that share against one half, in standard deviations.
    """

    pairs: int
    chosen_words: float
    rejected_words: float
    chosen_longer: float
    z: float

    @property
    def sentence(self) -> str:
        """The finding as text."""
        lengths = f"chosen answers have {self.chosen_words:.1f} words, rejected ones {self.rejected_words:.1f}"
        if abs(self.z) < 3:
            return f"No length bias beyond chance: {lengths}."
        preferred, share = ("longer", self.chosen_longer) if self.z > 0 else ("shorter", 1 - self.chosen_longer)
        return f"The {preferred} answer is chosen in {share:.0%} of the pairs: {lengths}. A policy can win by length alone."


def length_bias(pairs: Iterable[Pair]) -> LengthBias:
    """Compute the length statistics of pairs. Raises ValueError for an empty set."""
    lengths = [(len(answer_text(pair.chosen).split()), len(answer_text(pair.rejected).split())) for pair in pairs]
    if not lengths:
        raise ValueError("There are no pairs to compare lengths of; give at least one.")
    longer = sum(w > l for w, l in lengths)
    unequal = sum(w != l for w, l in lengths)
    chosen_words, rejected_words = (sum(column) / len(lengths) for column in zip(*lengths))
    share = longer / unequal if unequal else 0.5
    z = (2 * longer - unequal) / math.sqrt(unequal) if unequal else 0.0
    return LengthBias(len(lengths), chosen_words, rejected_words, share, z)
