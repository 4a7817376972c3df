"""What can be painted on the tokens of a pair: log-ratio, credit, the pilot's choice. Token values in, numbers to paint out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lab.glossary import TOKEN_VALUES as KINDS
from lab.glossary import Entry

EXTREME = 95
"""Percentile of the absolute values at which the colours end, so that one wild token does not make the others pale."""


@dataclass(frozen=True)
class Paint:
    """Numbers for both answers. values: by side, float64 [T].   limit: where the colours end, on both sides of 0; above 0.
    drawn: they are 0 or 1, chosen or not."""

    kind: Entry
    values: dict[str, np.ndarray]
    limit: float
    drawn: bool = False


def paintable(tokens: pd.DataFrame) -> list[str]:
    """Which of KINDS there are in token values, in the columns of `TokenReader.read`, of one pair."""
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
