"""The checks of pair sets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .finding import Finding
from .measured import MEASURED
from .texts import PairTexts


@dataclass(frozen=True)
class Corpus:
    """Input of a check.

    pairs:    Texts of a pair set.
    held_out: Texts of pairs that must not be trained on.
    imports:  Number of the later import that added a pair, by its id; pairs of the first import are not in it.
    """

    pairs: Sequence[PairTexts]
    held_out: Sequence[PairTexts] = ()
    imports: Mapping[str, int] = field(default_factory=dict)

    def is_older(self, id: str, other: str) -> bool:
        """Whether a pair comes from an earlier import than another one."""
        return self.imports.get(id, 0) < self.imports.get(other, 0)


Run = Callable[[Corpus], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """A check of a pair set.

    name:        Name in findings.
    title:       Readable name.
    explanation: One sentence: what it finds, and why that harms.
    run:         Yields the findings in a corpus.
    """

    name: str
    title: str
    explanation: str
    run: Run

    @property
    def description(self) -> str:
        """The explanation, with how often the check is right and how much it finds on planted defects."""
        return f"{self.explanation} {MEASURED[self.name].sentence}"


CHECKS: dict[str, Check] = {}
"""Every check by name, in the order in which they run."""


def check_named(name: str, title: str, explanation: str) -> Callable[[Run], Run]:
    """Register a function as the check of this name."""

    def register(run: Run) -> Run:
        CHECKS[name] = Check(name, title, explanation, run)
        return run

    return register
