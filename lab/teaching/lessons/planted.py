"""A pair set with planted defects for lesson 08, and how well a run knows the true order of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.evidence import Planted, plant
from lab.pairs import Pair, PairStore, pairs_from_rows

from .world_stores import world_store

if TYPE_CHECKING:
    from lab.run.handle import Run

PAIRS, SEED = 1000, 3
DEFECTS: Mapping[str, int] = {
    "flipped": 200,
    "duplicate": 25,
    "near_duplicate": 20,
    "contradiction": 20,
    "identical_sides": 15,
    "near_identical": 20,
    "empty_answer": 15,
    "truncated_answer": 25,
    "role_marker": 20,
    "control_characters": 15,
    "refusal_chosen": 15,
    "held_out_leak": 10,
}
"""Number of each defect among `PAIRS` pairs of the embedded world; each is in a pair of its own."""


@dataclass(frozen=True)
class PlantedSet:
    """A pair set with planted defects.

    Attributes:
        store: The set, to check and to repair.
        sound: The same pairs without the defects, to compare with.
        truth: What was planted where.
    """

    store: PairStore
    sound: PairStore
    truth: Planted


def planted_set() -> PlantedSet:
    """Make the set of lesson 08, without edits. Labels that are wrong in the embedded world already are not flipped."""
    made: list[Planted] = []

    def with_defects(pairs: list[Pair]) -> list[Pair]:
        made.append(plant(pairs[:PAIRS], DEFECTS, seed=SEED, flips_spare=lambda pair: bool(pair.meta["noisy"])))
        return made[0].pairs

    def without_defects(pairs: list[Pair]) -> list[Pair]:
        defects = {defect.pair_id: defect.original for defect in made[0].defects}
        originals = (defects.get(pair.id, pair) for pair in made[0].pairs)
        return [pair for pair in originals if pair is not None]

    store = world_store(with_defects, "lesson-08", fresh=True)
    return PlantedSet(store, world_store(without_defects, "lesson-08-sound"), made[0])


def true_order(run: Run) -> float:
    """Return the share of the embedded world's held-out pairs that a finished run has in the order of the oracle's rewards."""
    from lab.whatif import examine
    from lab.world import open_world

    pairs = pairs_from_rows(open_world().held_out_pairs())
    terms = examine(run).score(pairs).terms
    margins = (terms["log_ratio_chosen"] - terms["log_ratio_rejected"]).to_numpy()
    right = [(margin > 0) == (pair.meta["true_gap"] > 0) for margin, pair in zip(margins, pairs)]
    return float(sum(right) / len(right))
