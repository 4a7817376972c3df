"""Limits on what a file of pairs may take while it is read, against files that unpack to far more than they hold."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lab.pairs.pair import PairsError

ROW_MB = "LAB_ROW_MB"
UNPACKED_GB = "LAB_UNPACKED_GB"
DEEPEST = 100
"""Nested lists and objects of a row; real conversations with tools have about ten."""


def _from_environment(name: str, default: float, unit: int) -> int:
    text = os.environ.get(name, "")
    try:
        return round(float(text or default) * unit)
    except (ValueError, OverflowError):
        raise PairsError(f"{name}={text!r} is not a number; give one, such as {default:g}.") from None


class LimitError(PairsError):
    """A source takes more than a limit allows; nothing of it is imported, whatever its other rows are."""


@dataclass(frozen=True)
class Limits:
    """Limits of what a source may take.

    row_bytes: Longest row, in bytes of text (64 MB; the environment variable LAB_ROW_MB raises it).
    unpacked_bytes: Unpacked size up to which any ratio is fine (1 GB; LAB_UNPACKED_GB raises it).
    ratio: Beyond that size, an unpacked file may be this many times as large as the packed one. Text packs 3 to 20 times.
    """

    row_bytes: int = field(default_factory=lambda: _from_environment(ROW_MB, 64, 10**6))
    unpacked_bytes: int = field(default_factory=lambda: _from_environment(UNPACKED_GB, 1, 10**9))
    ratio: int = 200

    def row_too_long(self) -> PairsError:
        """Return the error for a row that exceeds `row_bytes`."""
        return PairsError(
            f"this row is longer than {self.row_bytes / 10**6:g} MB; leave it out, or raise the limit with the "
            f"environment variable {ROW_MB}."
        )


@dataclass
class Unpacked:
    """Running size of what a packed file gives."""

    path: Path
    packed_bytes: int
    limits: Limits
    total: int = 0

    def add(self, count: int) -> None:
        """Count unpacked bytes. Raises LimitError where they are more than a file of pairs of this size can hold."""
        self.total += count
        if self.total > max(self.limits.unpacked_bytes, self.limits.ratio * self.packed_bytes):
            raise LimitError(
                f"{self.path} has {self.packed_bytes:,} bytes, but unpacks to more than {self.total:,}; it is no file of pairs, or "
                f"raise the limit with the environment variable {UNPACKED_GB}."
            )


def check_depth(value: object, left: int = DEEPEST) -> None:
    """Raise PairsError for a value with too many nested lists and objects, which could not be stored or compared."""
    if isinstance(value, (list, tuple)):
        items = value
    elif isinstance(value, dict):
        items = tuple(value.values())
    else:
        return
    if left == 0:
        raise PairsError(f"it has more than {DEEPEST} lists or objects inside one another; leave the row out.")
    for item in items:
        check_depth(item, left - 1)
