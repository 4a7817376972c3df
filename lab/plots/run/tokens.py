"""Numbers by which the tokens of a pair can be coloured: log-ratio, credit, and the pilot's random choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lab.glossary import TOKEN_VALUES as KINDS
from lab.glossary import Entry

EXTREME = 95
"""Percentile of the absolute values at which the colours end, so that one outlier does not make the others pale."""


@dataclass(frozen=True)
class Paint:
    """Numbers that colour the tokens of both answers of a pair.

    Attributes:
        kind: Glossary entry of the numbers.
        values: float64 [T] by side.
        limit: Absolute value at which the colours end, above 0.
        drawn: Whether the numbers are 0 or 1 (drawn by the pilot or not).
    """

    kind: Entry
    values: dict[str, np.ndarray]
    limit: float
    drawn: bool = False

    @property
    def uniform(self) -> bool:
        """Whether all tokens of each answer have the same value, up to a thousandth."""
        return all(len(v) > 1 and np.allclose(v, v[0], rtol=1e-3, atol=0) for v in self.values.values())


def paintable(tokens: pd.DataFrame) -> list[str]:
    """Return which of KINDS the token values of one pair hold; `tokens` is a result of `TokenReader.read`."""
    if tokens.empty:
        return []
    columns = {"log_ratio": "ref_logps", "credit": "credit", "pilot": "pilot"}
    return [name for name, column in columns.items() if all(cell is not None for cell in tokens[column])]


def paint(tokens: pd.DataFrame, name: str) -> Paint:
    """Return the numbers of one of KINDS for one pair. Raises ValueError if its token values lack them."""
    if name not in paintable(tokens):
        raise ValueError(f"These tokens cannot be painted with {name!r}; they hold {', '.join(paintable(tokens)) or 'no values'}.")
    values = {}
    rows: Iterator[Any] = tokens.itertuples()
    for row in rows:
        numbers = row.logps.astype(np.float64) - row.ref_logps if name == "log_ratio" else getattr(row, name)
        values[str(row.side)] = np.asarray(numbers, np.float64)
    sizes = np.abs(np.concatenate(list(values.values())))
    sizes = sizes[np.isfinite(sizes)]
    limit = 1.0 if name == "pilot" or not len(sizes) else float(np.percentile(sizes, EXTREME)) or float(sizes.max()) or 1.0
    return Paint(KINDS[name], values, limit, name == "pilot")
