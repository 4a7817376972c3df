"""Diagnosis in words: what goes wrong in a run, why, since when, because of which pairs, and what to do.

Every condition is one small rule over evidence read from the run store (`broken`, `changed`, `probability`, `learned`, `flow`,
`methods`), the lines it
draws are in `Thresholds`, and `CHECKS` lists them all. To add one, write a function and decorate it with `check`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from lab.store import StoreReader

from .checks import CHECKS, Check, Seen, Severity, check
from .evidence import Evidence, Level
from .thresholds import FILE_NAME, Thresholds, read_thresholds, write_thresholds

from . import broken, changed, probability, learned, flow, methods  # isort: skip  # noqa: F401 - each puts its rules into CHECKS

__all__ = [
    "CHECKS",
    "FILE_NAME",
    "Check",
    "Diagnosis",
    "Evidence",
    "Level",
    "Seen",
    "Severity",
    "Thresholds",
    "check",
    "diagnose",
    "examine",
    "read_thresholds",
    "write_thresholds",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diagnosis:
    """Something to know of a run.

    kind: a key of CHECKS.   severity: "notice", "warning" or "error".   words: one or two sentences with the numbers, and what
    to do.   numbers: behind it, by their words with the unit.   thresholds: those that decided, by name.   pairs: ids of those
    that cause it, the worst first.   step: where it was found; `since`: where it began, or None.   change: where a change made in
    mid-run is the cause, the step after which it was made (`lab.train(run_dir=..., resume=True, without_change=...)`), else None.
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


def examine(reader: StoreReader, *, step: int | None = None, thresholds: Thresholds | None = None) -> dict[str, Seen]:
    """What every check sees up to a step (None: the latest), by kind; those that are silent too.

    Reads a bounded part of the store, however long the run. Never raises for what the store holds or lacks: a rule that cannot
    read it says so in `waits`.
    """
    limits = thresholds or Thresholds()
    evidence = Evidence(reader, step)
    seen = {kind: _see(one, evidence, limits) for kind, one in CHECKS.items()}
    return _without_consequences(seen, reader, limits)


OF_ITSELF = ("first_step", "not_finite", "parameters", "nothing_held_out")
"""Findings that no change in mid-run brings about, or that name the change themselves."""


def _without_consequences(seen: dict[str, Seen], reader: StoreReader, thresholds: Thresholds) -> dict[str, Seen]:
    """Silence what was not there before a change that did harm: its advice would be for another cause."""
    changes = [one.change for one in seen.values() if one.message and one.severity != "notice" and one.change is not None]
    if not changes:
        return seen
    before = Evidence(reader, min(changes))
    return {
        kind: one
        if not one.message or one.change is not None or kind in OF_ITSELF or _see(CHECKS[kind], before, thresholds).message
        else Seen(one.numbers)
        for kind, one in seen.items()
    }


def _see(one: Check, evidence: Evidence, thresholds: Thresholds) -> Seen:
    if evidence.done == 0 and one.kind != "parameters":
        return Seen(waits="no step yet")
    try:
        return one.rule(evidence, thresholds)
    except Exception as error:  # odd data must not take a page, or the run, down with them; the list of checks shows it
        log.debug("The check %s failed.", one.kind, exc_info=True)
        return Seen(waits=f"the store cannot be read here ({type(error).__name__}: {error})")


SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")
"""The gravest first."""


def diagnose(reader: StoreReader, *, step: int | None = None, thresholds: Thresholds | None = None) -> list[Diagnosis]:
    """What is worth knowing of the run behind `reader` up to a step (None: the latest), the gravest first; see `examine`."""
    limits = thresholds or Thresholds()
    return found_in(examine(reader, step=step, thresholds=limits), reader.step if step is None else step, limits)


def found_in(seen: Mapping[str, Seen], step: int, thresholds: Thresholds) -> list[Diagnosis]:
    """The findings among what the checks saw at a step, the gravest first."""
    found = [
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
        for kind, one in seen.items()
        if one.message
    ]
    return sorted(found, key=lambda one: SEVERITIES.index(one.severity))
