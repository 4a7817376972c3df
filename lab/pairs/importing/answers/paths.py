"""Names of columns, and values inside nested columns: "question.full_text", "summaries.0.text"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LISTED = 30
"""Columns that a message names."""


def normal(column: str) -> str:
    """Return a column's name in the form in which names are compared."""
    return column.strip().lower().replace(" ", "_").replace("-", "_")


def is_given(value: Any) -> bool:
    """Whether a cell holds something: not null, not empty."""
    return len(value) > 0 if hasattr(value, "__len__") else value is not None


def listed(columns: Sequence[str]) -> str:
    """Return the names of columns for a message, at most 30 of them."""
    more = len(columns) - LISTED
    return ", ".join(columns[:LISTED]) + (f" and {more:,} more" if more > 0 else "")


def root(column: str, columns: Any) -> str:
    """Return the column that a path begins in: itself, where there is a column of this name."""
    return column if column in columns else column.split(".", 1)[0]


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column, or of a path into a nested one; None where there is none."""
    if column in row or "." not in column:
        return row.get(column)
    value: Any = row
    for part in column.split("."):
        if hasattr(value, "tolist"):  # a NumPy array
            value = value.tolist()
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, (list, tuple)) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
