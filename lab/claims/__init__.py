"""Claims of the papers as experiments: each with its measure and its rule, written down before the results.

`trials` declares the experiments, `claim` and `catalogue` the claims; `measuring`, `verdicts` and `sentences` are pure functions
from the evaluations of finished runs to verdicts, `report` and `pictures` to the report.
"""

from .catalogue import CHAPTERS, CLAIMS
from .claim import Claim, Part, Region, Term
from .measuring import Measured, measure, measure_cost
from .trials import FLIPPED_SHARE, FULL, TRIALS, Base, Scale, Trial, declaration_of, trial_of
from .verdicts import Judged, correct_together, judge, verdict_of

__all__ = [
    "CHAPTERS",
    "CLAIMS",
    "FLIPPED_SHARE",
    "FULL",
    "TRIALS",
    "Base",
    "Claim",
    "Judged",
    "Measured",
    "Part",
    "Region",
    "Scale",
    "Term",
    "Trial",
    "correct_together",
    "declaration_of",
    "judge",
    "measure",
    "measure_cost",
    "trial_of",
    "verdict_of",
]
