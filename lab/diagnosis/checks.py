"""Types and registry of the diagnostic checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .evidence import Evidence
from .thresholds import Thresholds

Severity = Literal["notice", "warning", "error"]
"""notice: usual, but good to know. warning: action is advised. error: the run or its results are wrong."""


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        numbers: The numbers behind it, by description with unit.
        message: The finding, the number, and what to do, in a sentence each; "" if nothing is wrong.
        severity: Severity of the finding.
        pairs: Ids of the pairs that cause it.
        since: Step at which it began.
        missing: What data is missing, if the check cannot decide; otherwise "".
        change: The change made after this step is the cause, and the run can be resumed without it.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    severity: Severity = "warning"
    pairs: tuple[str, ...] = ()
    since: int | None = None
    missing: str = ""
    change: int | None = None


Rule = Callable[[Evidence, Thresholds], CheckResult]


@dataclass(frozen=True)
class Check:
    """A check: its name, readable title, the names of its thresholds, and its rule."""

    kind: str
    title: str
    thresholds: tuple[str, ...]
    rule: Rule


CHECKS: dict[str, Check] = {}
"""All checks by kind, in the order in which findings are listed."""


def check(title: str, *thresholds: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of a check of the same name.

    Args:
        title: Readable title.
        thresholds: Names of the fields of `Thresholds` that it reads.
    """

    def register(rule: Rule) -> Rule:
        CHECKS[rule.__name__] = Check(rule.__name__, title, thresholds, rule)
        return rule

    return register


def number(value: float) -> str:
    """Format a number for a sentence."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """Format a share for a sentence, with enough digits that only 0 and 1 become 0 % and 100 %."""
    digits = 0
    while digits < 3 and share not in (0, 1) and float(f"{100 * share:.{digits}f}") in (0, 100):
        digits += 1
    return f"{100 * share:.{digits}f} %"
