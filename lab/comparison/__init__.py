"""Runs side by side: their curves on a common axis, what their settings differ in, the same pair and the same prompt under each.

Pure functions of data frames stand in `axes`, `matching`, `settings`, `numbers`, `pairwise` and `answers`; `Comparison` reads what
they need from the stores of some runs.
"""

from .axes import AXES, Axis, by, pairs_seen
from .comparison import MOST, Comparison, compare

__all__ = ["AXES", "MOST", "Axis", "Comparison", "by", "compare", "pairs_seen"]
