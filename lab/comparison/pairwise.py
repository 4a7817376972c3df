"""Compare two runs pair by pair: a term of the same pair under both, and whether both trained on the same batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .compared_run import ComparedRun

CHECKED = 200
"""At most this many steps, evenly spaced, have their batches compared."""


def term_by_pair(one: pd.DataFrame, other: pd.DataFrame, term: str) -> pd.DataFrame:
    """Return a term of the pairs that two runs share, the largest difference first; empty if a run lacks the term.

    Args:
        one: Terms of the first run, one row per pair: pair, step, version and the term, as from `PairReader.latest`.
        other: Terms of the second run.
        term: Name of the term.

    Returns:
        A frame with pair, one, other, difference (one - other), step_one, step_other, version_one, version_other. Pairs with a
        non-finite value come last.
    """
    columns = ["pair", "one", "other", "difference", "step_one", "step_other", "version_one", "version_other"]
    if term not in one or term not in other:
        return pd.DataFrame(columns=columns)
    sides = [frame[["pair", "step", "version", term]].rename(columns={term: "value"}) for frame in (one, other)]
    both = sides[0].merge(sides[1], on="pair", suffixes=("_one", "_other"))
    both = both.rename(columns={"value_one": "one", "value_other": "other"})
    both["difference"] = both["one"].astype(np.float64) - both["other"].astype(np.float64)
    size = both["difference"].where(np.isfinite(both["difference"])).abs()
    return both.assign(size=size).sort_values(["size", "pair"], ascending=[False, True], ignore_index=True)[columns]


@dataclass(frozen=True)
class Batches:
    """Whether two runs trained on the same pairs, in the same versions, at the same steps.

    Attributes:
        checked: Number of steps compared.
        first: First step at which the batches differ, or None.
        start: Largest difference of the log-probs of the first batch, in nats, before either policy has moved; NaN if not recorded.
    """

    checked: int
    first: int | None
    start: float

    @property
    def same(self) -> bool:
        """Whether at least one step was compared and no batch differs."""
        return self.checked > 0 and self.first is None

    @property
    def message(self) -> str:
        """The result in one sentence."""
        if not self.checked:
            return "The batches cannot be compared yet, because no step is recorded in both runs."
        if self.first is not None:
            return f"The batches differ from step {self.first:,} on ({self.checked:,} steps compared)."
        end = "." if np.isnan(self.start) else f"; the log-probs of the first batch differ by {self.start:.2g} nats."
        return f"The batches hold the same pairs in every one of the {self.checked:,} steps compared{end}"


def compare_batches(steps: Iterable[tuple[int, pd.DataFrame, pd.DataFrame]]) -> Batches:
    """Compare the batches of two runs step by step. The order inside a batch is not recorded and not compared.

    Args:
        steps: Step, batch of the first run and batch of the second, as from `PairReader.batch`, in ascending order. A step with an
            empty batch is skipped.
    """
    checked, first, start = 0, None, np.nan
    for step, one, other in steps:
        if one.empty or other.empty:
            continue
        if checked == 0:
            start = _apart(one, other)
        checked += 1
        if first is None and _members(one) != _members(other):
            first = step
    return Batches(checked, first, start)


def compare_runs(one: ComparedRun, other: ComparedRun, checked: int = CHECKED) -> Batches:
    """Compare the batches of two runs at up to `checked` evenly spaced common steps."""
    first, last = max(one.first_step, other.first_step), min(one.step, other.step)
    if last < first:
        return compare_batches([])
    steps = np.unique(np.linspace(first, last, min(checked, last - first + 1)).astype(np.int64)).tolist()
    readers = one.run.reader.pairs, other.run.reader.pairs
    return compare_batches((step, readers[0].batch(step), readers[1].batch(step)) for step in steps)


def _members(batch: pd.DataFrame) -> list[tuple[str, int]]:
    return sorted(zip(batch["pair"], batch["version"].astype(int)))


def _apart(one: pd.DataFrame, other: pd.DataFrame) -> float:
    names = [name for name in ("logps_chosen", "logps_rejected") if name in one and name in other]
    both = one.drop_duplicates("pair").merge(other.drop_duplicates("pair"), on="pair", suffixes=("_one", "_other"))
    if not names or both.empty:
        return np.nan
    return float(max((both[f"{name}_one"] - both[f"{name}_other"]).abs().max() for name in names))
