"""The mathematics of the lab: preference objectives as pure functions of token log-probabilities.

    objective = make_objective("sgdpo", beta=0.1)
    draws = objective.draw(logps, torch.Generator().manual_seed(0))
    outcome, state = objective(logps, objective.initial_state(), draws, training=True)

Importing this package registers every objective in `OBJECTIVES`.
"""

from lab.objectives.methods.alpha_dpo import AlphaDPO
from lab.objectives.methods.dpo import DPO
from lab.objectives.methods.sgdpo import SGDPO
from lab.objectives.methods.simpo import SimPO
from lab.objectives.methods.spo import SPO, degree_confusion

from .base import (
    Degraded,
    DegradedSpec,
    Draws,
    Objective,
    Outcome,
    PairLogps,
    Preset,
    State,
    masked_sum,
    parameter,
)
from .credit import Credited, with_credit
from .field import FieldData, Trajectory, field, flow, pairs_at
from .formula import Formula, NumberedLine, formula_of, formula_text, numbers_of, values_of
from .methods import aot, guarded, lengths, link_functions, pointwise, reference_free  # noqa: F401  (registers their objectives)
from .pair_annotations import annotation_use
from .registry import OBJECTIVES, has_own_objectives, make_objective, register

__all__ = [
    "DPO",
    "OBJECTIVES",
    "SGDPO",
    "SPO",
    "AlphaDPO",
    "Credited",
    "Degraded",
    "DegradedSpec",
    "Draws",
    "FieldData",
    "Formula",
    "NumberedLine",
    "Objective",
    "Outcome",
    "PairLogps",
    "Preset",
    "SimPO",
    "State",
    "Trajectory",
    "annotation_use",
    "degree_confusion",
    "field",
    "flow",
    "formula_of",
    "formula_text",
    "has_own_objectives",
    "make_objective",
    "masked_sum",
    "numbers_of",
    "pairs_at",
    "parameter",
    "register",
    "values_of",
    "with_credit",
]
