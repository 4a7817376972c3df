"""Precision and recall of the checks, measured on planted defects by tests/bench/bench_pair_checks.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Lower ends of 95 % intervals, the smaller of those on the embedded world and on real pairs of HH-RLHF.

    recall:    Share of the planted defects that the check finds.
    precision: Share of its findings that were planted, without those that the set had before.
    """

    recall: float
    precision: float

    @property
    def sentence(self) -> str:
        """Both shares in words."""
        return (
            f"Of planted defects it finds at least {self.recall:.0%}, and at least {self.precision:.0%} of its findings are right."
        )


MEASURED = {
    "duplicate": Measured(recall=0.97, precision=0.97),
    "near_duplicate": Measured(recall=0.72, precision=0.96),
    "contradiction": Measured(recall=0.97, precision=0.97),
    "identical_sides": Measured(recall=0.97, precision=0.97),
    "near_identical": Measured(recall=0.90, precision=0.97),
    "empty_answer": Measured(recall=0.97, precision=0.97),
    "truncated_answer": Measured(recall=0.75, precision=0.79),
    "prompt_leak": Measured(recall=0.91, precision=0.97),
    "role_marker": Measured(recall=0.93, precision=0.97),
    "refusal_chosen": Measured(recall=0.72, precision=0.95),
    "control_characters": Measured(recall=0.97, precision=0.97),
    "mixed_languages": Measured(recall=0.85, precision=0.97),
    "held_out_leak": Measured(recall=0.97, precision=0.97),
}
"""Measured precision and recall by the name of the check."""
