"""Length bias of a pair set: whether the longer answer is the chosen one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lab.pairs.pair import Pair, answer_text


@dataclass(frozen=True)
class LengthBias:
    """Statistics of whether the chosen answers are the longer ones.

    pairs:         Number of pairs.
    chosen_words, rejected_words: Mean lengths in words.
    chosen_longer: Share of the pairs of unequal length whose chosen answer is longer (0.5 if there are none).
    accuracy:      Accuracy that "the longer answer wins" has on all pairs, a tie counting one half; below 0.5 the shorter wins.
    z:             Sign test of `chosen_longer` against one half, in standard deviations.
    """

    pairs: int
    chosen_words: float
    rejected_words: float
    chosen_longer: float
    accuracy: float
    z: float

    @property
    def sentence(self) -> str:
        """The finding as text."""
        lengths = f"chosen answers have {self.chosen_words:.1f} words, rejected ones {self.rejected_words:.1f}"
        if abs(self.z) < 3:
            return f"No length bias beyond chance: {lengths}."
        preferred, share = ("longer", self.chosen_longer) if self.z > 0 else ("shorter", 1 - self.chosen_longer)
        accuracy = max(self.accuracy, 1 - self.accuracy)
        return (
            f"The {preferred} answer is chosen in {share:.0%} of the pairs whose answers differ in length: {lengths}. A policy can "
            f'win by length alone: "the {preferred} wins" is right for {accuracy:.0%} of all pairs, equal lengths counted half.'
        )


def length_bias(pairs: Iterable[Pair]) -> LengthBias:
    """Compute the length statistics of pairs. Raises ValueError for an empty set."""
    lengths = [(len(answer_text(pair.chosen).split()), len(answer_text(pair.rejected).split())) for pair in pairs]
    if not lengths:
        raise ValueError("There are no pairs to compare lengths of; give at least one.")
    longer = sum(w > l for w, l in lengths)
    unequal = sum(w != l for w, l in lengths)
    chosen_words, rejected_words = (sum(column) / len(lengths) for column in zip(*lengths))
    return length_bias_of(len(lengths), longer, unequal, chosen_words, rejected_words)


def length_bias_of(pairs: int, longer: int, unequal: int, chosen_words: float, rejected_words: float) -> LengthBias:
    """Compute the length statistics from counts.

    Args:
        pairs: Number of pairs, at least 1.
        longer: Number of pairs whose chosen answer is longer.
        unequal: Number of pairs whose answers differ in length.
        chosen_words: Mean length of the chosen answers in words.
        rejected_words: Mean length of the rejected answers in words.
    """
    share = longer / unequal if unequal else 0.5
    accuracy = (longer + (pairs - unequal) / 2) / pairs
    z = (2 * longer - unequal) / math.sqrt(unequal) if unequal else 0.0
    return LengthBias(pairs, chosen_words, rejected_words, share, accuracy, z)
