"""Evidence about the pairs of a set: terms of a run and findings of checks, kept with the pairs to sort and filter by."""

from __future__ import annotations

import math

from app.state.jobs import Job, Jobs
from lab.pairs import PairStore, findings
from lab.progress import StageProgress
from lab.run.handle import Run
from lab.store.terms import MARGIN, with_margin

FIRST_TERMS = (
    MARGIN,
    "loss",
    "log_ratio_chosen",
    "log_ratio_rejected",
    "weight_chosen",
    "weight_rejected",
    "target_margin",
    "degree",
)
"""Terms that are offered first."""
NOT_TERMS = ("pair", "step", "version")

CHECKS: Jobs[str, int] = Jobs()
"""Running checks by the path of the pair set."""


def terms_of(run: Run) -> list[str]:
    """Return the terms that a run has recorded for its pairs, the most used first."""
    columns = [name for name in with_margin(run.pairs()).columns if name not in NOT_TERMS]
    return [*(name for name in FIRST_TERMS if name in columns), *(name for name in columns if name not in FIRST_TERMS)]


def number_name(run: Run, term: str) -> str:
    """Return the name under which a term of a run is kept with the pairs."""
    return f"{run.dir.name}/{term}"


def load_terms(store: PairStore, run: Run, terms: list[str]) -> int:
    """Keep the latest values of some terms of a run with the pairs; return how many pairs have one."""
    frame = with_margin(run.pairs())
    for term in terms:
        values = {
            str(pair): float(value) for pair, value in zip(frame["pair"], frame[term]) if value is not None and math.isfinite(value)
        }
        store.put_numbers(number_name(run, term), values)
    return len(frame)


def check_job(store: PairStore) -> Job[int]:
    """Start the checks of a set in the background, unless they are running."""
    key = str(store.path)
    if key not in CHECKS:
        CHECKS[key] = Job(lambda progress: _check(store, progress))
    return CHECKS[key]


def _check(store: PairStore, progress: StageProgress) -> int:
    progress("reading the pairs", 0.05)
    pairs = store.all()
    progress(f"checking {len(pairs):,} pairs", 0.2)
    results = findings(pairs)
    progress("storing the findings", 0.9)
    store.put_findings(results)
    return len(results)
