"""Two runs pair by pair: a term of the same pair in one and in the other, and whether both saw the same batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd


def term_by_pair(one: pd.DataFrame, other: pd.DataFrame, term: str) -> pd.DataFrame:
    """A term of the pairs that both have: pair, one, other, difference (one - other), step_one, step_other, version_one,
    version_other; the largest difference first.

    one, other: columns pair, step, version and the term, one row a pair, as `PairReader.latest` gives them. Pairs where the term is
    not finite on a side come last. Empty where a side lacks the term.
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
    """Did two runs see the same pairs, in the same versions, at the same steps?

    checked: steps that were looked at (both have them).   first: the first at which they differ, or None.
    start: how far apart the log-probs of the first batch are, in nats, before either policy has moved; NaN where not recorded.
    """

    checked: int
    first: int | None
    start: float

    @property
    def same(self) -> bool:
        """Whether there is something to look at, and none of it differs."""
        return self.checked > 0 and self.first is None

    @property
    def message(self) -> str:
        """What was found, in one or two sentences."""
        if not self.checked:
            return "No step of both is recorded yet, so their batches cannot be compared."
        if self.first is not None:
            return f"Their batches differ from step {self.first:,} on ({self.checked:,} steps compared)."
        end = "." if np.isnan(self.start) else f"; the log-probs of the first batch differ by {self.start:.2g} nats."
        return f"The same pairs in every one of the {self.checked:,} steps compared{end}"


def compare_batches(steps: Iterable[tuple[int, pd.DataFrame, pd.DataFrame]]) -> Batches:
    """Compare batches step by step.

    steps: step and the batch of each run, as `PairReader.batch` gives it, in rising order; those that one of them lacks are passed
    over. The order inside a batch is not recorded, and moves no sum but in its last bits.
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


def _members(batch: pd.DataFrame) -> list[tuple[str, int]]:
    return sorted(zip(batch["pair"], batch["version"].astype(int)))


def _apart(one: pd.DataFrame, other: pd.DataFrame) -> float:
    names = [name for name in ("logps_chosen", "logps_rejected") if name in one and name in other]
    both = one.drop_duplicates("pair").merge(other.drop_duplicates("pair"), on="pair", suffixes=("_one", "_other"))
    if not names or both.empty:
        return np.nan
    return float(max((both[f"{name}_one"] - both[f"{name}_other"]).abs().max() for name in names))
