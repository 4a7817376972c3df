"""Arrays of one objective over the plane of log X1 and log X2, as a picture needs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class FieldArrays:
    """An objective over a grid of N x M points, with log X1 along the first axis and log X2 along the second.

    Attributes:
        log_x1: Values of log X1 in nats, [N].
        log_x2: Values of log X2 in nats, [M].
        layers: A float32 array [N, M] for each key of `lab.glossary.FIELD_QUANTITIES`.
        next_log_x1: log X1 after one step of gradient descent at `rate`, [N, M].
        next_log_x2: log X2 after that step, [N, M].
        attainable: False where the point needs a token probability above 1, bool [N, M].
        rate: Step size of gradient descent, nats squared.
    """

    log_x1: np.ndarray
    log_x2: np.ndarray
    layers: dict[str, np.ndarray]
    next_log_x1: np.ndarray
    next_log_x2: np.ndarray
    attainable: np.ndarray
    rate: float
