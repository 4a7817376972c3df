"""The number of a claim: one value per seed and part from the runs' evaluations, their mean and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        steps: Step at which each variant was at that level, in the mean over the seeds.
    """

    label: str
    values: Mapping[int, float]
    estimate: Estimate | None
    levels: Mapping[int, float] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """The value of a part for one seed.

    Attributes:
        value: The value; NaN where it cannot be had.
        level: Level of the measure at which the runs were compared, where it is one.
        steps: Step at which each variant's run was at that level.
    """

    value: float
    level: float | None = None
    steps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """The number of a claim.

    Attributes:
        claim: The claim.
        mean: The mean of its parts, on which the verdict rests.
        parts: Each part.
        beside: Values that are reported beside the number, from all seeds that have them.
        finished: Seeds of which every needed run is finished.
        wanted: Seeds that a verdict needs.
    """

    claim: Claim
    mean: Row
    parts: tuple[Row, ...]
    finished: tuple[int, ...]
    wanted: int
    beside: tuple[Row, ...] = ()

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
    finished = _seeds(claim.variants, curves)
    parts = tuple(_part_row(part, curves, finished) for part in claim.parts)
    both = [seed for seed in finished if all(seed in row.values for row in parts)]
    means = {seed: float(np.mean([row.values[seed] for row in parts])) for seed in both}
    beside = tuple(_part_row(part, curves, _seeds(part.variants, curves)) for part in claim.beside)
    return Measured(claim, _row("mean", means), parts, finished, wanted, beside)


def measure_cost(claim: Claim, rounds: Sequence[Mapping[str, float]], wanted: int) -> Measured:
    """Return the number of a claim about cost: the ratio of two methods' CPU seconds per step, with its interval over the rounds.

    Args:
        claim: The claim.
        rounds: CPU seconds per step by objective, of each round.
        wanted: Number of rounds that a verdict needs.
    """
    ratios = {number: own[claim.cost] / own["dpo"] for number, own in enumerate(rounds) if {claim.cost, "dpo"} <= own.keys()}
    return Measured(claim, _row("mean", ratios), (), tuple(ratios), wanted)


def value_of(part: Part, curves: Mapping[str, Curve]) -> Reading:
    """Return the value of a part for one seed, and where its runs were compared.

    Args:
        part: The part.
        curves: Curve of this seed's run of each variant.
    """
    level = parse_level(part.at)
    value = level.value if level.scalar is None else common_level(list(curves.values()), level.scalar)
    if value is not None and math.isnan(value):
        return Reading(math.nan)
    terms: list[float] = []
    steps: dict[str, float] = {}
    for term in part.terms:
        curve = curves[term.variant]
        place, at = (parse_level(term.at), parse_level(term.at).value) if term.at else (level, value)
        known = curve.scalars.get(term.metric, np.full(len(curve.steps), np.nan))
        steps[term.variant] = step_at(curve, place, at)
        terms.append(term.factor * float(value_at(curve.steps, known, steps[term.variant])))
    if part.ratio:
        above, below = (sum(t for t, term in zip(terms, part.terms) if sign * term.factor > 0) for sign in (1, -1))
        return Reading(above / -below if below else math.nan)
    return Reading(float(sum(terms)), value, steps) if level.scalar else Reading(float(sum(terms)))


def _seeds(variants: Sequence[str], curves: Curves) -> tuple[int, ...]:
    """Return the seeds of which every one of some variants has finished."""
    return tuple(sorted(set.intersection(*(set(curves.get(variant, {})) for variant in variants))))


def _part_row(part: Part, curves: Curves, seeds: Sequence[int]) -> Row:
    read = {seed: value_of(part, {variant: curves[variant][seed] for variant in part.variants}) for seed in seeds}
    read = {seed: own for seed, own in read.items() if math.isfinite(own.value)}
    levels = {seed: own.level for seed, own in read.items() if own.level is not None}
    steps = {variant: float(np.mean([read[seed].steps[variant] for seed in levels])) for variant in part.variants if levels}
    return _row(part.label, {seed: own.value for seed, own in read.items()}, levels, steps)


def _row(
    label: str, values: Mapping[int, float], levels: Mapping[int, float] | None = None, steps: Mapping[str, float] | None = None
) -> Row:
    estimate = over_seeds(np.array(list(values.values()))) if len(values) > 1 else None
    return Row(label, values, estimate, levels or {}, steps or {})
