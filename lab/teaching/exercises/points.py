"""Values and derivatives of an objective at single points, which the checks compare answers with."""

from __future__ import annotations

import torch

from lab.objectives import FieldData, Objective, field

__all__ = ["at"]


def at(objective: Objective, log_x1: float, log_x2: float) -> FieldData:
    """Return loss and derivatives of an objective at one point of the plane, as a field of 1 x 1 points."""
    return field(objective, torch.tensor([log_x1], dtype=torch.float64), torch.tensor([log_x2], dtype=torch.float64))
