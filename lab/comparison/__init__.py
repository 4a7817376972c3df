"""Compare runs: curves on a common axis, differences in settings, and the same pair and prompt under each run.

`axes`, `matching`, `settings`, `numbers`, `pairwise` and `answers` are pure functions of data frames; `Comparison` reads their
inputs from the run stores.
"""

from .axes import AXES, Axis, by, pairs_seen
from .comparison import MOST, Comparison, compare

__all__ = ["AXES", "MOST", "Axis", "Comparison", "by", "compare", "pairs_seen"]
