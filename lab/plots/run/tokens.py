"""What can be painted on the tokens of a pair: log-ratio, credit, the pilot's choice. Token values in, numbers to paint out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

EXTREME = 95
"""Percentile of the absolute values at which the colours end, so that one wild token does not make the others pale."""


@dataclass(frozen=True)
class Kind:
    """Something that tokens can be painted with: title, symbol, unit, and its meaning in one sentence."""

    title: str
    symbol: str
    unit: str
    meaning: str


KINDS = {
    "log_ratio": Kind(
        "Log-ratio",
        "log π(y_t) − log ref(y_t)",
        "nats",
        "Blue: the policy finds this token likelier here than the reference does; orange: rarer.",
    ),
    "credit": Kind(
        "Credit",
        "−∂L/∂log π(y_t)",
        "",
        "Blue: the loss pushes this token up; orange: down. The gradient of the model begins with these numbers.",
    ),
    "pilot": Kind(
        "Pilot",
        "y_t in the pilot",
        "",
        "SGDPO: the tokens that were drawn at random; their log-ratios steer the other answer's side.",
    ),
}


@dataclass(frozen=True)
class Paint:
    """Numbers for both answers. values: by side, float64 [T].   limit: where the colours end, on both sides of 0; above 0.
    drawn: they are 0 or 1, chosen or not."""

    kind: Kind
    values: dict[str, np.ndarray]
    limit: float
    drawn: bool = False

    @property
    def uniform(self) -> bool:
        """Whether all tokens of each answer have the same value, up to a thousandth."""
        return all(len(v) > 1 and np.allclose(v, v[0], rtol=1e-3, atol=0) for v in self.values.values())


def paintable(tokens: pd.DataFrame) -> list[str]:
    """Which of KINDS there are in token values, in the columns of `StoreReader.tokens`, of one pair."""
    if tokens.empty:
        return []
    columns = {"log_ratio": "ref_logps", "credit": "credit", "pilot": "pilot"}
    return [name for name, column in columns.items() if all(cell is not None for cell in tokens[column])]


def paint(tokens: pd.DataFrame, name: str) -> Paint:
    """The numbers of one of KINDS for one pair. Raises ValueError where its tokens have none."""
    if name not in paintable(tokens):
        raise ValueError(f"These tokens cannot be painted with {name!r}; there is {', '.join(paintable(tokens)) or 'nothing'}.")
    values = {}
    for row in tokens.itertuples():
        found = row.logps.astype(np.float64) - row.ref_logps if name == "log_ratio" else getattr(row, name)
        values[str(row.side)] = np.asarray(found, np.float64)
    sizes = np.abs(np.concatenate(list(values.values())))
    sizes = sizes[np.isfinite(sizes)]
    limit = 1.0 if name == "pilot" or not len(sizes) else float(np.percentile(sizes, EXTREME)) or float(sizes.max()) or 1.0
    return Paint(KINDS[name], values, limit, name == "pilot")
