"""An objective's field as plain arrays, which a browser draws without computing any loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lab.objectives import FieldData, Objective, State

from .plane import Plane, landscape

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FieldArrays:
    """Arrays of an objective over N x M points, log X₁ along the first axis and log X₂ along the second. They are read-only.

    Attributes:
        log_x1: Axis of log X₁, float64 [N], nats.
        log_x2: Axis of log X₂, float64 [M], nats.
        layers: float32 [N, M] for every quantity of `lab.glossary.FIELD_QUANTITIES`; inf or NaN where one is not finite.
        next_log_x1: log X₁ after one step of gradient descent at `rate`, float64 [N, M]: small steps keep their digits.
        next_log_x2: log X₂ after that step, float64 [N, M].
        attainable: bool [N, M], False where a point needs a token probability above 1.
        rate: Step size, nats squared.
    """

    log_x1: Doubles
    log_x2: Doubles
    layers: dict[str, Floats]
    next_log_x1: Doubles
    next_log_x2: Doubles
    attainable: NDArray[np.bool_]
    rate: float


def field_arrays(objective: Objective, plane: Plane, *, state: State | None = None, rate: float | None = None) -> FieldArrays:
    """Compute the arrays of an objective over a plane; kept per objective, plane and rate unless a state is given.

    Args:
        objective: The objective.
        plane: The plane.
        state: The objective's statistics; None for those that the plane describes.
        rate: Step size, nats squared; None chooses one with which descent crosses the plane (`Landscape.rate`).

    Raises:
        ValueError: The rate is not positive, or what the objective raises.
    """
    if rate is not None and not 0 < rate < float("inf"):
        raise ValueError(f"The step size is {rate:g}; give a positive number of nats squared.")
    if state is None:
        return _kept(objective, plane, rate)
    picture = landscape(objective, plane, state=state)
    return _arrays(picture.data, picture.rate if rate is None else rate)


@lru_cache(64)
def _kept(objective: Objective, plane: Plane, rate: float | None) -> FieldArrays:
    picture = landscape(objective, plane)
    return _arrays(picture.data, picture.rate if rate is None else rate)


def _arrays(data: FieldData, rate: float) -> FieldArrays:
    layers = {
        "loss": data.value,
        "ratio": data.ratio,
        "log_space_ratio": data.log_space_ratio,
        "d_log_x1": data.d_log_x1,
        "d_log_x2": data.d_log_x2,
    }
    attainable = data.attainable.numpy().copy()
    attainable.flags.writeable = False
    return FieldArrays(
        log_x1=_doubles(data.log_x1),
        log_x2=_doubles(data.log_x2),
        layers={name: _floats(values) for name, values in layers.items()},
        next_log_x1=_doubles(data.log_x1[:, None] - rate * data.d_log_x1),
        next_log_x2=_doubles(data.log_x2[None, :] - rate * data.d_log_x2),
        attainable=attainable,
        rate=rate,
    )


def _floats(values: Tensor) -> Floats:
    with np.errstate(over="ignore"):  # a ratio can be beyond float32; inf is drawn as the end of the colour scale
        array = values.numpy().astype(np.float32)
    array.flags.writeable = False
    return array


def _doubles(values: Tensor) -> Doubles:
    array = values.double().numpy().copy()
    array.flags.writeable = False
    return array
