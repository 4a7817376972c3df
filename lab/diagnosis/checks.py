"""What a check of the diagnosis is, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .evidence import Evidence
from .thresholds import Thresholds

Severity = Literal["notice", "warning", "error"]
"""notice: usual, but good to know. warning: something to do. error: the run, or what it says, is wrong."""


@dataclass(frozen=True)
class Seen:
    """What a rule saw.

    numbers: behind it, by their words with the unit.   words: one or two sentences with the numbers in them and what to do; ""
    where all is well.   pairs: ids of those that cause it.   since: the step it began at.   waits: what is missing, where nothing
    can be said.   change: the change made after this step is the cause, so that the run can be resumed without it.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    severity: Severity = "warning"
    pairs: tuple[str, ...] = ()
    since: int | None = None
    waits: str = ""
    change: int | None = None


Rule = Callable[[Evidence, Thresholds], Seen]


@dataclass(frozen=True)
class Check:
    """A condition that is looked for: its name, a title for people, the thresholds that decide, and its rule."""

    kind: str
    title: str
    thresholds: tuple[str, ...]
    rule: Rule


CHECKS: dict[str, Check] = {}
"""Every check by its kind, in the order in which they are told."""


def check(title: str, *thresholds: str) -> Callable[[Rule], Rule]:
    """Decorator: registers a rule under its function's name. thresholds: names of fields of `Thresholds`."""

    def register(rule: Rule) -> Rule:
        CHECKS[rule.__name__] = Check(rule.__name__, title, thresholds, rule)
        return rule

    return register


def number(value: float) -> str:
    """A number in a sentence."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in a sentence; 0 % and 100 % only where it is exactly that."""
    digits = 0
    while digits < 3 and share not in (0, 1) and float(f"{100 * share:.{digits}f}") in (0, 100):
        digits += 1
    return f"{100 * share:.{digits}f} %"
