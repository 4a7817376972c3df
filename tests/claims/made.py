"""Finished runs of claims as made-up curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lab.claims import Claim, Part, Region, Term
from lab.experiments.statistics import Curve

STEPS = (0, 50, 100)


def claim(parts: Sequence[Part] = (), *, low: float = 0.0, high: float = np.inf, cost: str = "") -> Claim:
    own = tuple(parts) or (Part("a against b", (Term(1, "a", "x"), Term(-1, "b", "x"))),)
    return Claim(
        "key", "A beats B", "A is better than B.", "a paper", "the x of A minus that of B", "points", () if cost else own,
        Region(low, high), 0.5, cost=cost, note="A note.",
    )  # fmt: skip


def curves(
    values: dict[str, Callable[[int], Sequence[float]]], seeds: int, **others: Sequence[float]
) -> dict[str, dict[int, Curve]]:
    """Curves of each variant, from the values of x of each seed at STEPS; further scalars are the same in all runs."""
    more = {f"eval/{name.replace('__', '/')}": np.array(own, float) for name, own in others.items()}
    return {
        variant: {seed: Curve(np.array(STEPS, float), {"x": np.array(make(seed), float), **more}) for seed in range(seeds)}
        for variant, make in values.items()
    }
