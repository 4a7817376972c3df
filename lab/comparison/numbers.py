"""What runs came to: the numbers of their latest looks, with 95 % intervals where there are any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Measure:
    """words: for people.   scalar: its name in a look.   interval: what its interval's ends are kept under, _low and _high."""

    message: str
    scalar: str
    interval: str = ""
    unit: str = ""


MEASURES = (
    Measure("Oracle reward of sampled answers", "eval/oracle_reward", "reward"),
    Measure("Reward of sampled answers", "eval/reward", "reward"),
    Measure("Win rate against the reference", "eval/win_rate", "win", "share"),
    Measure("Distance from the reference (KL)", "eval/kl", "kl", "nats per answer"),
    Measure("Held-out accuracy", "eval/rewards/accuracies", unit="share of pairs"),
    Measure("Held-out reward margin", "eval/rewards/margins"),
    Measure("Answer length", "eval/completions/mean_length", unit="tokens"),
    Measure("Cut answers", "eval/completions/clipped_ratio", unit="share"),
    Measure("Repeated 4-grams", "eval/repetition", unit="share"),
    Measure("Valid answers", "eval/valid", unit="share"),
)

INTERVALS = {measure.scalar: measure.interval for measure in MEASURES if measure.interval}


def numbers(looks: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each measure and run: measure, unit, run, value, low, high; NaN where there is none. What nobody has is left out.

    looks: the details of an evaluation event, by the runs' labels.
    """
    rows = []
    for measure in MEASURES:
        if not any(measure.scalar in look for look in looks.values()):
            continue
        for label, look in looks.items():
            value = float(look.get(measure.scalar, math.nan))
            low, high = (float(look.get(f"{measure.interval}_{end}", math.nan)) for end in ("low", "high"))
            rows.append((measure.message, measure.unit, label, value, low, high))
    return pd.DataFrame(rows, columns=["measure", "unit", "run", "value", "low", "high"])


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The same with one row a measure and one column a run, each cell as text: "0.62 [0.57, 0.67]"."""
    if table.empty:
        return pd.DataFrame()
    cells = [written(*row) for row in table[["value", "low", "high"]].itertuples(index=False)]
    named = [f"{measure} [{unit}]" if unit else measure for measure, unit in zip(table["measure"], table["unit"])]
    wide = table.assign(cell=cells, measure=named)
    order = list(dict.fromkeys(named))
    return wide.pivot(index="measure", columns="run", values="cell").reindex(index=order, columns=list(dict.fromkeys(wide["run"])))


def written(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A number with its interval, or a dash where there is none."""
    if math.isnan(value):
        return "–"
    shown = f"{value if abs(value) > 1e-6 else 0.0:.3g}"  # rounding
    return shown if math.isnan(low) or math.isnan(high) else f"{shown} [{low:.3g}, {high:.3g}]"
