"""Paired differences of variants with intervals over seeds and prompts, at equal levels, in words; pure functions."""

from .comparing import Comparisons, compare
from .comparison import Comparison
from .curves import Curve, curves_of
from .estimate import Estimate, over_seeds, over_seeds_and_prompts
from .levels import Level, parse_level
from .power import seeds_needed

__all__ = [
    "Comparison",
    "Comparisons",
    "Curve",
    "Estimate",
    "Level",
    "compare",
    "curves_of",
    "over_seeds",
    "over_seeds_and_prompts",
    "parse_level",
    "seeds_needed",
]
