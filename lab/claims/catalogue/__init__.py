"""All claims, in the order of the report."""

from __future__ import annotations

from lab.claims.claim import Claim

from .alpha_dpo import CLAIMS as ALPHA_DPO
from .others import COST_CLAIMS, FLIPPED_CLAIMS, HARD_CLAIMS, SPO_CLAIMS
from .sgdpo import CLAIMS as SGDPO

CHAPTERS: dict[str, tuple[Claim, ...]] = {
    "DPO and SGDPO": SGDPO,
    "AlphaDPO and SimPO": ALPHA_DPO,
    "SPO": SPO_CLAIMS,
    "Flipped labels": FLIPPED_CLAIMS,
    "The second world": HARD_CLAIMS,
    "Cost": COST_CLAIMS,
}
"""Claims by chapter of the report."""

CLAIMS: tuple[Claim, ...] = tuple(claim for chapter in CHAPTERS.values() for claim in chapter)
"""All claims."""
