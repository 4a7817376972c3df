"""Values of a row that are no text: scores, weights, degrees, tags, and what is kept as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

MISSING = {"nan", "na", "<na>", "nat", "none", "null", "#n/a", "undefined"}
"""Words by which R, pandas, Excel, Python and JavaScript write a missing value."""
LONGEST_MISSING = 30
"""Characters of a text from which on it is no such word, whatever surrounds it."""
MISSING_TEXTS = 'texts that are only "NA", "nan", "None" or another word for a missing value'
"""Name of their number in the report."""


def degree_of(difference: float) -> float:
    """Return the preference degree of a score difference: tanh(d / 2) = 2 sigmoid(d) - 1.

    The Bradley-Terry probability that chosen is better, stretched from [1/2, 1] to [0, 1]: 1 point is 0.46, 2 are 0.76, 4 are 0.96.
    OURS: it needs no other row, so it does not depend on what else a file holds.
    """
    return math.tanh(difference / 2)


def as_number(value: Any) -> float | None:
    """Return a finite number, also from its text; None for anything else."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if isinstance(value, str):
        try:
            value = float("" if "_" in value else value)  # Python reads 1_0 as 10
        except ValueError:
            return None
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (OverflowError, ValueError):  # an integer too large; a signalling NaN
            return None
        return number if math.isfinite(number) else None
    return None


def missing_words(texts: Iterable[Any]) -> int:
    """Count texts that are only a word by which programs write a missing value; an answer may be such a word."""
    return sum(isinstance(text, str) and len(text) < LONGEST_MISSING and text.strip().casefold() in MISSING for text in texts)


def as_weight(value: Any) -> float | None:
    """Return a weight of at least 0; None for anything else."""
    number = None if isinstance(value, str) else as_number(value)
    return number if number is not None and number >= 0 else None


def as_degree(value: Any) -> float | None:
    """Return a degree in (0, 1]; None for anything else."""
    number = None if isinstance(value, str) else as_number(value)
    return number if number is not None and 0 < number <= 1 else None


def as_tags(value: Any) -> tuple[str, ...] | None:
    """Return tags, sorted, from a list of texts; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag.strip() for tag in value):
        return None
    return tuple(sorted({tag.strip() for tag in value}))


def as_note(value: Any) -> str | None:
    """Return a note; None for anything but text."""
    return value if isinstance(value, str) else None


def as_plain(value: Any) -> Any:
    """Return a JSON value; None for what JSON cannot hold."""
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):  # NumPy scalars and arrays
        value = value.tolist()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return as_plain(float(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): plain for k, v in value.items() if (plain := as_plain(v)) is not None}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return None
