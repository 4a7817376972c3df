"""Results of evaluations as a table, with 95 % intervals over the prompts of a run or over the runs of a group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.glossary import entry

from .uncertainty import between, over_runs

MEASURES = (
    "eval/oracle_reward",
    "eval/reward",
    "eval/win_rate",
    "eval/kl",
    "eval/rewards/accuracies",
    "eval/rewards/margins",
    "eval/completions/mean_length",
    "eval/completions/clipped_ratio",
    "eval/repetition",
    "eval/valid",
)
"""Scalars that are compared, in this order."""

INTERVALS = {"eval/oracle_reward": "reward", "eval/reward": "reward", "eval/win_rate": "win", "eval/kl": "kl"}
"""Scalar -> prefix of the ends of its interval in the detail of an evaluation event: <prefix>_low and <prefix>_high."""


COLUMNS = ["measure", "unit", "run", "value", "low", "high", "runs", "of"]


def numbers(evaluations: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Return one row per measure and label: measure, unit, run (the label), value, low, high, runs, of; NaN where it is unknown.

    Of one run, the interval is the recorded one (over prompts); of several, value is the mean over the runs with its t interval,
    `runs` the number of runs that have the measure and `of` that of all. Measures that no run has are left out.

    Args:
        evaluations: By label, the detail of one evaluation event per run of a curve: one for a single run, several for a group.
    """
    rows = []
    for scalar in MEASURES:
        if not any(scalar in detail for details in evaluations.values() for detail in details):
            continue
        for label, details in evaluations.items():
            values = [float(detail.get(scalar, math.nan)) for detail in details]
            rows.append((*_named(scalar), label, *_estimate(values, _recorded(scalar, details))))
    return pd.DataFrame(rows, columns=COLUMNS)


def difference(label: str, one: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows like those of `numbers` for the difference of two groups, or of a group and a run, with its 95 % t interval.

    It is made within runs of the same seed if the sides share at least two seeds, otherwise by Welch; a single run on a side leaves
    no interval.

    Args:
        label: Label of the difference.
        one: By seed, values of the runs of the first side by scalar: details of evaluations, or rows of `matching.at_kl`.
        other: Those of the second side.
    """
    shared = sorted(one.keys() & other.keys())
    paired = len(shared) > 1
    sides = [[side[seed] for seed in shared] if paired else [*side.values()] for side in (one, other)]
    rows = []
    for name in ("step", *MEASURES):
        if not any(name in run for side in sides for run in side):
            continue
        values = [np.array([[float(run.get(name, math.nan))] for run in side]).reshape(-1, 1) for side in sides]
        estimates = between(values[0], values[1], paired=paired)
        numbers = (float(value[0]) for value in (estimates.mean, estimates.low, estimates.high))
        rows.append((*_named(name), label, *numbers, int(estimates.count[0]), min(map(len, sides))))
    return pd.DataFrame(rows, columns=COLUMNS)


def _named(name: str) -> tuple[str, str]:
    return ("Step", "") if name == "step" else (entry(name).title, entry(name).unit)


def _recorded(scalar: str, details: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the ends of the interval that the evaluation of a single run recorded; NaN without one."""
    prefix = INTERVALS.get(scalar, "")
    low, high = (float(details[0].get(f"{prefix}_{end}", math.nan)) if details else math.nan for end in ("low", "high"))
    return low, high


def matched(values: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the table of `numbers` for values of runs at the same distance from the reference, with a row for the step.

    Args:
        values: By label, the rows of its runs in the result of `lab.comparison.matching.at_kl`.
    """
    columns = list(next(iter(values.values())).columns) if values else []
    rows = []
    for name in columns:
        for label, frame in values.items():
            rows.append((*_named(name), label, *_estimate(frame[name].tolist())))
    return pd.DataFrame(rows, columns=COLUMNS)


def _estimate(values: Sequence[float], ends: tuple[float, float] = (math.nan, math.nan)) -> tuple[float, float, float, int, int]:
    """Return value, low, high, runs and of; ends: the recorded interval of a single run."""
    if len(values) > 1:
        over = over_runs(np.array(values)[:, None])
        return float(over.mean[0]), float(over.low[0]), float(over.high[0]), int(over.count[0]), len(values)
    value = values[0] if values else math.nan
    return value, *ends, int(not math.isnan(value)), len(values)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the result of `numbers` into one row per measure and one column per label, each cell as text: "0.62 [0.57, 0.67]".

    A mean over fewer runs than the group has says so: "0.62 (2 of 3 seeds)".
    """
    if table.empty:
        return pd.DataFrame()
    cells = [format_number(*row) for row in table[["value", "low", "high"]].itertuples(index=False)]
    fewer = [f" ({runs} of {of} seeds)" if 0 < runs < of else "" for runs, of in zip(table["runs"], table["of"])]
    named = [f"{measure} [{unit}]" if unit else measure for measure, unit in zip(table["measure"], table["unit"])]
    wide = table.assign(cell=[cell + more for cell, more in zip(cells, fewer)], measure=named)
    order = list(dict.fromkeys(named))
    return wide.pivot(index="measure", columns="run", values="cell").reindex(index=order, columns=list(dict.fromkeys(wide["run"])))


def format_number(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Format a number with its interval, if it has one; a dash for NaN."""
    if math.isnan(value):
        return "–"
    shown = f"{value if abs(value) > 1e-6 else 0.0:.3g}"  # rounding
    return shown if math.isnan(low) or math.isnan(high) else f"{shown} [{low:.3g}, {high:.3g}]"
