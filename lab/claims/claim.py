"""A claim as data: a sentence, its source, one measured number, and the rule that turns its interval into a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A measure of one variant, with a factor.

    Attributes:
        factor: 1 or -1.
        variant: Label of the variant.
        metric: Name of a scalar of evaluations, or one that `lab.experiments.records` adds.
        at: Where it is read, as for `Experiment.compare`; empty: where its part says.
    """

    factor: float
    variant: str
    metric: str
    at: str = ""


@dataclass(frozen=True)
class Part:
    """One number per seed: the sum of the terms, or the ratio of the first to the second.

    Attributes:
        label: Name in the picture.
        terms: The terms, all read from runs of the same seed.
        at: "end"; "step=0"; or "kl", "accuracy", "margin": where the runs of a seed have reached the same level, which is the
            furthest that all of them reach.
        ratio: Whether the first term is divided by the second.
    """

    label: str
    terms: tuple[Term, ...]
    at: str = "end"
    ratio: bool = False

    @property
    def variants(self) -> tuple[str, ...]:
        """Labels of the variants, each once."""
        return tuple(dict.fromkeys(term.variant for term in self.terms))


@dataclass(frozen=True)
class Region:
    """The values that confirm a claim: between `low` and `high`."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def words(self) -> str:
        """The region in words, after "is" or "lies": "above 0", "between -0.2 and 0.2"."""
        if math.isinf(self.high):
            return f"above {self.low:g}"
        if math.isinf(self.low):
            return f"below {self.high:g}"
        return f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Claim:
    """A claim with everything that was decided before its results.

    The number of the claim is the mean of its parts within each seed, and its interval is Student's 95 % interval over the seeds.
    It is confirmed if the interval lies inside `confirmed`, refuted if it lies wholly outside, else not shown.

    Attributes:
        key: Name for the command line and for links.
        title: A few words for the table.
        sentence: The claim in plain English.
        source: Paper with section or equation, or OURS.
        quantity: What the number is, as a noun phrase.
        unit: Unit of the number.
        parts: What is averaged; empty for a claim about cost.
        confirmed: The values that confirm it.
        smallest: The smallest value that matters in practice (OURS), for the number of seeds that would show it.
        curve: Measure that is drawn over the steps; empty for that of the first term.
        cost: Objective of a claim about cost: the number is its CPU time per step in relation to DPO's.
        note: What a reader must know to judge the number.
        beside: Values that are reported beside the number, and that no verdict rests on.
    """

    key: str
    title: str
    sentence: str
    source: str
    quantity: str
    unit: str
    parts: tuple[Part, ...]
    confirmed: Region
    smallest: float
    curve: str = ""
    cost: str = ""
    note: str = ""
    beside: tuple[Part, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """Labels of all variants that it is measured on, each once."""
        return tuple(dict.fromkeys(variant for part in self.parts for variant in part.variants))

    @property
    def rule(self) -> str:
        """The rule in words."""
        of = "rounds" if self.cost else "seeds"
        return f"Confirmed if the 95 % interval over the {of} lies {self.confirmed.words}."


def against(one: str, other: str, metric: str, at: str = "end", label: str = "") -> Part:
    """Return the difference of two variants in a measure: the first minus the second."""
    return Part(label or f"{one} against {other}", (Term(1, one, metric), Term(-1, other, metric)), at)
