"""The latest evaluations of several runs as a table, with 95 % confidence intervals where they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lab.glossary import entry

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


def numbers(evaluations: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per measure and run: measure, unit, run, value, low, high; NaN where a run lacks it.

    Measures that no run has are left out.

    Args:
        evaluations: The detail of one evaluation event per run, by the run's label.
    """
    rows = []
    for scalar in MEASURES:
        if not any(scalar in detail for detail in evaluations.values()):
            continue
        known = entry(scalar)
        for label, detail in evaluations.items():
            value = float(detail.get(scalar, math.nan))
            low, high = (float(detail.get(f"{INTERVALS.get(scalar, '')}_{end}", math.nan)) for end in ("low", "high"))
            rows.append((known.title, known.unit, label, value, low, high))
    return pd.DataFrame(rows, columns=["measure", "unit", "run", "value", "low", "high"])


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the result of `numbers` into one row per measure and one column per run, each cell as text: "0.62 [0.57, 0.67]"."""
    if table.empty:
        return pd.DataFrame()
    cells = [format_number(*row) for row in table[["value", "low", "high"]].itertuples(index=False)]
    named = [f"{measure} [{unit}]" if unit else measure for measure, unit in zip(table["measure"], table["unit"])]
    wide = table.assign(cell=cells, measure=named)
    order = list(dict.fromkeys(named))
    return wide.pivot(index="measure", columns="run", values="cell").reindex(index=order, columns=list(dict.fromkeys(wide["run"])))


def format_number(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Format a number with its interval, if it has one; a dash for NaN."""
    if math.isnan(value):
        return "–"
    shown = f"{value if abs(value) > 1e-6 else 0.0:.3g}"  # rounding
    return shown if math.isnan(low) or math.isnan(high) else f"{shown} [{low:.3g}, {high:.3g}]"
