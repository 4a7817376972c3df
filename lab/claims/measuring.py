"""The number of a claim: one value per seed and part from the runs' evaluations, their mean and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lab.experiments.statistics import Curve, Estimate, over_seeds, parse_level
from lab.experiments.statistics.levels import common_level, step_at, value_at

from .claim import Claim, Part

Curves = Mapping[str, Mapping[int, Curve]]
"""Curve of each finished run, by the variant's label and the seed."""


@dataclass(frozen=True)
class Row:
    """A mean over seeds with its interval.

    Attributes:
        label: Of what.
        values: The value of each seed.
        estimate: Mean and interval; None with fewer than two seeds.
        levels: Level of the measure at which each seed was compared, where it is one.
    """

    label: str
    values: Mapping[int, float]
    estimate: Estimate | None
    levels: Mapping[int, float]


@dataclass(frozen=True)
class Measured:
    """The number of a claim.

    Attributes:
        claim: The claim.
        mean: The mean of its parts, on which the verdict rests.
        parts: Each part.
        finished: Seeds of which every needed run is finished.
        wanted: Seeds that a verdict needs.
    """

    claim: Claim
    mean: Row
    parts: tuple[Row, ...]
    finished: tuple[int, ...]
    wanted: int

    @property
    def complete(self) -> bool:
        """Whether every seed that a verdict needs is finished."""
        return len(self.finished) >= self.wanted


def measure(claim: Claim, curves: Curves, wanted: int) -> Measured:
    """Return the number of a claim from finished runs.

    Args:
        claim: The claim, not one about cost.
        curves: Curves of the finished runs.
        wanted: Number of seeds that a verdict needs.
    """
    per_variant = [set(curves.get(variant, {})) for variant in claim.variants]
    finished = tuple(sorted(set.intersection(*per_variant)))
    parts, each = [], []
    for part in claim.parts:
        values: dict[int, float] = {}
        levels: dict[int, float] = {}
        for seed in finished:
            value, level = value_of(part, {variant: curves[variant][seed] for variant in part.variants})
            if math.isfinite(value):
                values[seed] = value
                levels |= {} if level is None else {seed: level}
        each.append(values)
        parts.append(_row(part.label, values, levels))
    both = [seed for seed in finished if all(seed in values for values in each)]
    means = {seed: float(np.mean([values[seed] for values in each])) for seed in both}
    return Measured(claim, _row("mean", means, {}), tuple(parts), finished, wanted)


def measure_cost(claim: Claim, rounds: Sequence[Mapping[str, float]], wanted: int) -> Measured:
    """Return the number of a claim about cost: the ratio of two methods' CPU seconds per step, with its interval over the rounds.

    Args:
        claim: The claim.
        rounds: CPU seconds per step by objective, of each round.
        wanted: Number of rounds that a verdict needs.
    """
    ratios = {number: own[claim.cost] / own["dpo"] for number, own in enumerate(rounds) if {claim.cost, "dpo"} <= own.keys()}
    row = _row("mean", ratios, {})
    return Measured(claim, row, (), tuple(ratios), wanted)


def value_of(part: Part, curves: Mapping[str, Curve]) -> tuple[float, float | None]:
    """Return the value of a part for one seed, and the level at which its runs were compared; NaN where it cannot be had.

    Args:
        part: The part.
        curves: Curve of this seed's run of each variant.
    """
    level = parse_level(part.at)
    value = level.value if level.scalar is None else common_level(list(curves.values()), level.scalar)
    if value is not None and math.isnan(value):
        return math.nan, None
    terms = []
    for term in part.terms:
        curve = curves[term.variant]
        place, at = (parse_level(term.at), parse_level(term.at).value) if term.at else (level, value)
        known = curve.scalars.get(term.metric, np.full(len(curve.steps), np.nan))
        terms.append(term.factor * float(value_at(curve.steps, known, step_at(curve, place, at))))
    if part.ratio:
        above, below = (sum(t for t, term in zip(terms, part.terms) if sign * term.factor > 0) for sign in (1, -1))
        return (above / -below if below else math.nan), None
    return float(sum(terms)), value if level.scalar else None


def _row(label: str, values: Mapping[int, float], levels: Mapping[int, float]) -> Row:
    estimate = over_seeds(np.array(list(values.values()))) if len(values) > 1 else None
    return Row(label, values, estimate, levels)
