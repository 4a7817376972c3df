"""The kinds of embedded worlds, as data: what the oracle rewards, and how an answer's text is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WEIGHTS = {
    "out_of_order": -0.8,
    "wrong": -0.6,
    "repeated": -0.4,
    "off_question": -0.6,
    "filler": -0.4,
    "rude": -1.0,
    "bad_tip": -0.8,
    "courtesy": 0.5,
    "unreadable": -0.6,
    "empty": -1.0,
}
"""Reward of one occurrence of each part of an answer."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of world. Kinds share tasks, questions and defects.

    Attributes:
        name: Name of the world with seed 0, as pairs and as a model.
        weights: Reward of one occurrence of each part.
        all_steps: Reward of a complete list of right steps; each step has an equal share.
        all_explained: Reward of an explanation after each right step, in equal shares; None where explanations are no part of the
            language.
        floor: Lowest reward; lower sums are raised to it.
        most_defects: Most defects that are drawn for an answer.
        most_words: Longest answer that is drawn, in words; None for any length.
    """

    name: str
    weights: Mapping[str, float]
    all_steps: float = 4.0
    all_explained: float | None = None
    floor: float = -4.0
    most_defects: int = 5
    most_words: int | None = None

    @property
    def best(self) -> float:
        """Highest reward: every step right and explained, a polite opening and a polite closing."""
        return self.all_steps + (self.all_explained or 0.0) + 2 * self.weights["courtesy"]


PLAIN = Kind("world", WEIGHTS)
"""The first world: the parts of an answer count independently of each other."""

HARD = Kind(
    "world-hard",
    WEIGHTS | {"misplaced": -0.5},
    all_explained=2.0,
    floor=-6.0,
    most_defects=4,
    most_words=102,
)
"""The hard world: an explanation is worth something after its right step, and costs something anywhere else."""

KINDS = {kind.name: kind for kind in (PLAIN, HARD)}
