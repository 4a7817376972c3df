"""Training diagnostics with explanations: what is wrong in a run, since when, which pairs cause it, and what to do.

Each check is a small rule over evidence read from the run store (`broken`, `changed`, `probability`, `learned`, `flow`,
`methods`). `Thresholds` holds their limits and `CHECKS` lists them all. To add a check, decorate a function with `check`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from lab.store import StoreReader

from .checks import CHECKS, Check, CheckResult, Severity, check
from .evidence import Evidence, Level
from .thresholds import FILE_NAME, Thresholds, read_thresholds, write_thresholds

from . import broken, changed, probability, learned, flow, methods  # isort: skip  # noqa: F401 - each registers its rules in CHECKS

__all__ = [
    "CHECKS",
    "FILE_NAME",
    "Check",
    "CheckResult",
    "Diagnosis",
    "Evidence",
    "Level",
    "Severity",
    "Thresholds",
    "check",
    "diagnose",
    "read_thresholds",
    "run_checks",
    "write_thresholds",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diagnosis:
    """A finding about a run.

    Attributes:
        kind: Name of the check, a key of CHECKS.
        severity: "notice", "warning" or "error".
        message: The finding, the number, and what to do, in a sentence each.
        numbers: The numbers behind it, by description with unit.
        thresholds: The thresholds that decided, by name.
        pairs: Ids of the pairs that cause it, the worst first.
        step: Step up to which the run was examined.
        since: Step at which it began, or None.
        change: If a change during the run is the cause, the step after which it was made, for
            `lab.train(run_dir=..., resume=True, without_change=...)`; otherwise None.
    """

    kind: str
    severity: Severity
    message: str
    numbers: Mapping[str, float]
    thresholds: Mapping[str, float]
    pairs: tuple[str, ...]
    step: int
    since: int | None = None
    change: int | None = None


def run_checks(reader: StoreReader, *, step: int | None = None, thresholds: Thresholds | None = None) -> dict[str, CheckResult]:
    """Run every check on a run and return all results by kind, those without a finding too.

    Reads a bounded part of the store for any length of run. Never raises because of the content of the store: a check that cannot
    read it sets `missing` in its result.

    Args:
        reader: Reader of the run.
        step: Consider only data up to this step; None: all.
        thresholds: Limits of the checks; None: the defaults.
    """
    limits = thresholds or Thresholds()
    evidence = Evidence(reader, step)
    results = {kind: _run(check, evidence, limits) for kind, check in CHECKS.items()}
    return _without_consequences(results, reader, limits)


INDEPENDENT = ("first_step", "not_finite", "parameters", "nothing_held_out")
"""Findings that no change during a run causes, or that name the change themselves."""


def _without_consequences(results: dict[str, CheckResult], reader: StoreReader, thresholds: Thresholds) -> dict[str, CheckResult]:
    """Remove findings that began after a harmful change, because their advice would address another cause."""
    changes = [one.change for one in results.values() if one.message and one.severity != "notice" and one.change is not None]
    if not changes:
        return results
    before = Evidence(reader, min(changes))
    return {
        kind: result
        if not result.message or result.change is not None or kind in INDEPENDENT or _run(CHECKS[kind], before, thresholds).message
        else CheckResult(result.numbers)
        for kind, result in results.items()
    }


def _run(check: Check, evidence: Evidence, thresholds: Thresholds) -> CheckResult:
    if evidence.done == 0 and check.kind != "parameters":
        return CheckResult(missing="no step yet")
    try:
        return check.rule(evidence, thresholds)
    except Exception as error:  # unexpected data must not end the page or the run; the list of checks shows the error
        log.debug("The check %s failed.", check.kind, exc_info=True)
        return CheckResult(missing=f"the store cannot be read here ({type(error).__name__}: {error})")


SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")
"""The most severe first."""


def diagnose(reader: StoreReader, *, step: int | None = None, thresholds: Thresholds | None = None) -> list[Diagnosis]:
    """Return the findings about a run, the most severe first; arguments as in `run_checks`."""
    limits = thresholds or Thresholds()
    return select_findings(run_checks(reader, step=step, thresholds=limits), reader.step if step is None else step, limits)


def select_findings(results: Mapping[str, CheckResult], step: int, thresholds: Thresholds) -> list[Diagnosis]:
    """Return the findings among the results of all checks at a step, the most severe first."""
    findings = [
        Diagnosis(
            kind,
            one.severity,
            one.message,
            dict(one.numbers),
            {name: getattr(thresholds, name) for name in CHECKS[kind].thresholds},
            one.pairs,
            step,
            one.since,
            one.change,
        )
        for kind, one in results.items()
        if one.message
    ]
    return sorted(findings, key=lambda one: SEVERITIES.index(one.severity))
