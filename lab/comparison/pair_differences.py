"""The difference of a term of every pair between two runs or groups, with its interval over seeds or over visits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .uncertainty import Estimates, adjusted, between, over_runs

COLUMNS = (
    *("pair", "one", "other", "difference", "low", "high", "count", "certainty", "q", "evidence"),
    *("step_one", "step_other", "version_one", "version_other"),
)

LEVEL = 0.05
"""False discovery rate of the pairs whose difference is called shown."""

SHOWN, ALONE = "shown", "alone"
"""Values of the column `evidence`: the difference is shown after the correction for all pairs; or the interval of this pair alone
excludes 0."""


def latest_of(frame: pd.DataFrame, term: str) -> pd.DataFrame:
    """Return the last row of every pair with pair, step, version and the term as `value`; empty if the term is missing."""
    if term not in frame:
        return pd.DataFrame({"pair": [], "step": [], "version": [], "value": []})
    return frame[["pair", "step", "version", term]].rename(columns={term: "value"}).drop_duplicates("pair", keep="last")


def over_seeds(one: Mapping[int, pd.DataFrame], other: Mapping[int, pd.DataFrame], term: str) -> pd.DataFrame:
    """Return the difference of a term of every pair between two groups, with its 95 % t interval over their seeds.

    If the groups share at least two seeds, only these are used, and the difference is made within pairs of runs of the same seed;
    otherwise the interval is Welch's over all runs. A pair needs two seeds (on each side) for an interval.

    Args:
        one: Latest terms of the runs of the first group by seed, one row per pair, as from `PairReader.latest`.
        other: Those of the second group.
        term: Name of the term.

    Returns:
        One row per pair, the largest difference first: pair, one, other (means over the seeds used), difference, low, high, count
        (seeds, or runs of the smaller side), certainty (|difference| / half the interval), q (p value adjusted for all pairs),
        evidence ("shown": q <= 0.05, "alone": only the interval excludes 0, else ""), step and version of the latest row of both
        sides. `attrs["seeds"]` holds the seeds of the pairs of runs, empty if they are not paired.
    """
    shared = sorted(one.keys() & other.keys())
    paired = len(shared) > 1
    sides = [[latest_of(side[seed], term) for seed in (shared if paired else side)] for side in (one, other)]
    pairs = _common([frame["pair"] for frame in sides[0]], [frame["pair"] for frame in sides[1]])
    values = [_matrix(side, pairs) for side in sides]
    if paired:
        both = np.isfinite(values[0]) & np.isfinite(values[1])
        values = [np.where(both, side, np.nan) for side in values]
    estimates = between(values[0], values[1], paired=paired)
    means = [over_runs(side).mean for side in values]
    table = _table(pairs, means[0], means[1], estimates, [_last(side, pairs) for side in sides])
    table.attrs = {"seeds": shared if paired else []}
    return table


def over_visits(one: pd.DataFrame, other: pd.DataFrame, term: str) -> pd.DataFrame:
    """Return the mean difference of a term of every pair between two runs, with its 95 % t interval over the visits of the pair.

    Visits are compared one by one: at the same step if the runs saw the pairs at the same steps (twins, equal seeds), otherwise by
    their order. Only visits of the text that a run saw last count. Visits of one training are not independent, so the interval
    tells how constant a difference was, and not whether another seed would show it.

    Args:
        one: Terms of the first run, one row per pair and visit, oldest first, as from `PairReader.read`.
        other: Terms of the second run.
        term: Name of the term.

    Returns:
        A table like that of `over_seeds`; one and other are means over the visits compared, and count is their number.
        `attrs["same_steps"]` tells whether visits were compared at the same steps.
    """
    sides = [_visits(frame, term) for frame in (one, other)]
    same_steps = len(sides[0].merge(sides[1], on=["pair", "step"])) >= min(map(len, sides)) / 2
    key = "step" if same_steps else "visit"
    both = sides[0].merge(sides[1], on=["pair", key], suffixes=("_one", "_other"))
    pairs = pd.Index(both["pair"].unique())
    row, column = pairs.get_indexer(both["pair"]), both.groupby("pair").cumcount().to_numpy()
    values = []
    for name in ("value_one", "value_other"):
        matrix = np.full((int(column.max()) + 1 if len(both) else 0, len(pairs)), np.nan)
        matrix[column, row] = both[name]
        values.append(matrix)
    seen = np.isfinite(values[0]) & np.isfinite(values[1])
    means = [over_runs(np.where(seen, side, np.nan)).mean for side in values]
    lasts = [side.drop_duplicates("pair", keep="last") for side in sides]
    table = _table(pairs, means[0], means[1], between(values[0], values[1], paired=True), [_last([last], pairs) for last in lasts])
    table.attrs = {"same_steps": bool(same_steps)}
    return table


def by_size(table: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with the largest differences first; those without a finite difference come last."""
    return _sorted(table, table["difference"].astype(np.float64).abs())


def by_certainty(table: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs whose difference is the most certain first, |difference| / half the interval; those without one last."""
    return _sorted(table, table["certainty"], finite=False)


@dataclass(frozen=True)
class Evidence:
    """Counts of pairs by the evidence that they differ.

    Attributes:
        pairs: Number of pairs.
        known: Number of those with an interval.
        excluded: Number of those whose interval excludes 0.
        shown: Number of those that remain after the correction for many comparisons.
    """

    pairs: int
    known: int
    excluded: int
    shown: int

    @property
    def message(self) -> str:
        """The result in words; "" without any pair."""
        if not self.pairs:
            return ""
        if not self.known:
            return f"None of these {self.pairs:,} pairs has an interval: it takes at least two values on each side."
        of = f"{self.known:,} of {self.pairs:,} pairs have" if self.known < self.pairs else f"All {self.pairs:,} pairs have"
        chance = f"about {LEVEL * self.known:,.0f} would by chance alone" if self.known > 1 else "one in 20 would by chance alone"
        return (
            f"{of} an interval; {self.excluded:,} of these exclude 0, as {chance}. Corrected for {self.known:,} comparisons "
            f"(Benjamini and Hochberg, false discovery rate {LEVEL:.0%}) {self.shown or 'none'} remain{'s' * (self.shown < 2)}."
        )


def evidence(table: pd.DataFrame) -> Evidence:
    """Count the pairs of a table of `over_seeds` or `over_visits` whose difference is certain."""
    marks = table["evidence"]
    return Evidence(len(table), int(table["low"].notna().sum()), int((marks != "").sum()), int((marks == SHOWN).sum()))


def _common(one: Sequence[pd.Series], other: Sequence[pd.Series]) -> pd.Index:
    sides = [pd.Index(pd.concat(side).unique()) if side else pd.Index([]) for side in (one, other)]
    return sides[0].intersection(sides[1], sort=False)


def _matrix(frames: Sequence[pd.DataFrame], pairs: pd.Index) -> np.ndarray:
    """Return the values of some pairs, one row per frame, [k, n]; NaN where a frame lacks the pair."""
    rows = [frame.set_index("pair")["value"].reindex(pairs).to_numpy(np.float64) for frame in frames]
    return np.stack(rows) if rows else np.empty((0, len(pairs)))


def _visits(frame: pd.DataFrame, term: str) -> pd.DataFrame:
    """Return pair, step, version, value and the number of the visit, of the text that was seen last."""
    if term not in frame:
        return pd.DataFrame({"pair": [], "step": [], "version": [], "value": [], "visit": []})
    rows = frame[["pair", "step", "version", term]].rename(columns={term: "value"})
    rows = rows[rows["version"] == rows.groupby("pair")["version"].transform("last")]
    return rows.assign(visit=rows.groupby("pair").cumcount())


def _last(frames: Sequence[pd.DataFrame], pairs: pd.Index) -> pd.DataFrame:
    """Return step and version of the latest row of some pairs in any of the frames, by pair."""
    every = pd.concat(frames).sort_values("step", kind="stable").drop_duplicates("pair", keep="last")
    return every.set_index("pair")[["step", "version"]].reindex(pairs)


def _table(
    pairs: pd.Index, one: np.ndarray, other: np.ndarray, estimates: Estimates, lasts: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    half = (estimates.high - estimates.low) / 2
    certainty = np.divide(np.abs(estimates.mean), half, out=np.full(len(pairs), np.nan), where=half > 0)
    certainty = np.where((half == 0) & (estimates.mean != 0), np.inf, certainty)
    q = adjusted(estimates.p)
    alone = (estimates.low > 0) | (estimates.high < 0)
    columns = {
        "pair": pairs,
        "one": one,
        "other": other,
        "difference": estimates.mean,
        "low": estimates.low,
        "high": estimates.high,
        "count": estimates.count,
        "certainty": certainty,
        "q": q,
        "evidence": np.where(alone & (q <= LEVEL), SHOWN, np.where(alone, ALONE, "")),
    }
    for side, last in zip(("one", "other"), lasts):
        columns |= {f"step_{side}": last["step"].to_numpy(), f"version_{side}": last["version"].to_numpy()}
    table = pd.DataFrame(columns)[list(COLUMNS)]
    return by_size(table[table["count"] > 0])


def _sorted(table: pd.DataFrame, size: pd.Series, *, finite: bool = True) -> pd.DataFrame:
    known = size.where(np.isfinite(size)) if finite else size
    order = pd.DataFrame({"size": known, "pair": table["pair"]}).sort_values(["size", "pair"], ascending=[False, True]).index
    return table.loc[order].reset_index(drop=True)
