"""A finding of a check about one pair, with the remedy that is proposed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Remedy = Literal["swap", "drop", "edit", "tag", "none"]
"""Exchange chosen and rejected, leave the pair out, replace texts, add a tag, or leave the decision to the curator."""


@dataclass(frozen=True)
class Finding:
    """A finding of a check about one pair. Every field is a JSON value.

    pair_id:    Id of the pair.
    check:      Name of the check, one of `lab.pairs.CHECKS` or of the evidence from runs.
    sentence:   The finding as one sentence.
    other_id:   Id of the pair that it conflicts with, or "".
    remedy:     What to do: "swap", "drop", "edit", "tag" or "none".
    confidence: How likely the finding is right, in [0, 1]: measured precision of its check (`lab.pairs.checks.measured`),
        probability of a flipped label, or measured share of wrong labels among pairs that were never learned or were forgotten.
    proposal:   Arguments of the remedy: new texts by field for "edit" ({"chosen": ...}), {"tag": ...} for "tag", else empty.
    """

    pair_id: str
    check: str
    sentence: str
    other_id: str = ""
    remedy: Remedy = "none"
    confidence: float = 1.0
    proposal: Mapping[str, Any] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """Return the fields by name, as JSON values."""
        return asdict(self)
