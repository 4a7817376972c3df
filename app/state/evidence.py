"""Evidence about the pairs of a set: terms of a run and findings of checks, kept with the pairs to sort and filter by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pandas as pd

import lab
from app.state import pair_sets
from app.state.access import require_edit
from app.state.jobs import Job, Jobs
from lab.evidence import EVIDENCE, evidence_of, flip_findings, held_out_leaks, run_findings, share_sentence
from lab.pairs import CHECKS, PairStore, findings
from lab.pairs.query import PairQuery
from lab.progress import StageProgress
from lab.store.terms import MARGIN, with_margin

if TYPE_CHECKING:
    from lab.run.handle import Run

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
TRAJECTORY = ("confidence", "variability", "correctness", "aum", "forgotten")
"""Numbers from a pair's margins over training."""
FLIPPED = "flipped labels"
"""Names the numbers of the search for flipped labels, as a run's name names its terms."""
SEARCHED = (
    "probability",
    "probability_if_few",
    "probability_if_many",
    "held_out_margin",
    "confidence",
    "variability",
    "correctness",
    "aum",
)
MAPPED = ("probability", "probability_if_few", "probability_if_many", "confidence", "variability")
"""Numbers of the search that the map of the pairs needs."""

JOBS: Jobs[tuple[str, str], str] = Jobs()
"""Running work by pair set and kind; its result is a sentence."""


def terms_of(run: Run) -> list[str]:
    """Return the terms that a run has recorded for its pairs, the most used first."""
    columns = [name for name in with_margin(run.pairs()).columns if name not in NOT_TERMS]
    return [*(name for name in FIRST_TERMS if name in columns), *(name for name in columns if name not in FIRST_TERMS)]


def number_name(source: str, term: str) -> str:
    """Return the name under which a number from a run, or from a search, is kept with the pairs."""
    return f"{source}/{term}"


def load_terms(store: PairStore, run: Run, terms: Iterable[str]) -> int:
    """Keep the latest values of some terms of a run with the pairs; return how many pairs the run has seen."""
    require_edit()
    frame = with_margin(run.pairs()).rename(columns={"pair": "pair_id"})
    _keep(store, run.dir.name, frame, terms)
    return len(frame)


def load_trajectories(store: PairStore, run: Run) -> str:
    """Keep what a run shows about learned and forgotten pairs with the pairs; return the result as a sentence."""
    require_edit()
    frame = evidence_of(run)
    frame = frame[frame["pair_id"].isin(store.ids())]
    _keep(store, run.dir.name, frame, TRAJECTORY)
    results = run_findings(frame)
    store.put_findings(results, checks=[name for name in EVIDENCE if name != "probably_flipped"])
    return f"{len(results):,} pairs were never learned or forgotten, of {len(frame):,} that the run has seen."


def _keep(store: PairStore, source: str, frame: pd.DataFrame, names: Iterable[str]) -> None:
    known = set(store.matching(PairQuery(state="all")))
    for name in names:
        values = {
            str(pair): float(value)
            for pair, value in zip(frame["pair_id"], frame[name])
            if value is not None and math.isfinite(value) and pair in known
        }
        store.put_numbers(number_name(source, name), values)


def start_checks(store: PairStore, held_out: str | None = None, run: Run | None = None) -> None:
    """Start the checks of a set in the background, unless they are running.

    Args:
        store: The pair set.
        held_out: Location of a set that must not be trained on.
        run: A run on this set whose held-out pairs must not be trained on.
    """
    _start(store, "checks", lambda progress: _check(store, held_out, run, progress))


def start_search(store: PairStore, model: str, folds: int, repeats: int) -> None:
    """Start the search for flipped labels in the background, unless it is running."""
    _start(store, FLIPPED, lambda progress: _search(store, model, folds, repeats, progress))


def _start(store: PairStore, kind: str, work: Callable[[StageProgress], str]) -> None:
    key = (str(store.location), kind)
    if key not in JOBS:
        JOBS[key] = Job(work)


def _check(store: PairStore, held_out: str | None, run: Run | None, progress: StageProgress) -> str:
    pairs = store.all()
    results = findings(
        pairs, pair_sets.open_set(held_out).all() if held_out else (), progress=progress, imports=store.later_imports()
    )
    if run is not None:
        results += held_out_leaks(run)
    store.put_findings(results, checks=CHECKS)
    return f"{len(results):,} findings in {len(pairs):,} pairs."


def _search(store: PairStore, model: str, folds: int, repeats: int, progress: StageProgress) -> str:
    table = lab.suspects(store, model, folds=folds, repeats=repeats, progress=progress)
    _keep(store, FLIPPED, table, SEARCHED)
    results = flip_findings(table)
    store.put_findings(results, checks=["probably_flipped"])
    return f"{len(results):,} labels are named as probably flipped. {share_sentence(table)}"


def map_frame(store: PairStore) -> pd.DataFrame:
    """Return the numbers of the search for flipped labels, one row per pair, as `lab.plots.pair_set.cartography` takes them."""
    numbers = store.numbers(store.ids())
    rows = [{"pair_id": id, **{name: values.get(number_name(FLIPPED, name)) for name in MAPPED}} for id, values in numbers.items()]
    return pd.DataFrame(rows, columns=["pair_id", *MAPPED]).astype(dict.fromkeys(MAPPED, float))
