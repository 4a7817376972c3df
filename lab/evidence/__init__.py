"""Evidence from training about the pairs: never learned, forgotten, probably flipped; and planted defects to measure it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .names import EVIDENCE

if TYPE_CHECKING:
    from .planting import DEFECTS, LOOK_ALIKES, Defect, Planted, plant
    from .run_evidence import evidence_of, held_out_leaks, run_findings
    from .short_runs import steps_for
    from .suspects import find_suspects, flip_findings, share_sentence
    from .trajectories import trajectory_numbers

__all__ = [
    "DEFECTS",
    "EVIDENCE",
    "LOOK_ALIKES",
    "Defect",
    "Planted",
    "evidence_of",
    "find_suspects",
    "flip_findings",
    "held_out_leaks",
    "plant",
    "run_findings",
    "share_sentence",
    "steps_for",
    "trajectory_numbers",
]

_SOURCES = {
    "planting": ("DEFECTS", "LOOK_ALIKES", "Defect", "Planted", "plant"),
    "run_evidence": ("evidence_of", "held_out_leaks", "run_findings"),
    "short_runs": ("steps_for",),
    "suspects": ("find_suspects", "flip_findings", "share_sentence"),
    "trajectories": ("trajectory_numbers",),
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that planting defects and reading a run import neither pydantic nor torch."""
    for source, names in _SOURCES.items():
        if name in names:
            return getattr(importlib.import_module(f"lab.evidence.{source}"), name)
    raise AttributeError(f"module 'lab.evidence' has no attribute {name!r}")
