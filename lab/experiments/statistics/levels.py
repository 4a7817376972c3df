"""Where two runs are compared: after training, at a step, or where both have reached the same level of a measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lab.comparison.matching import first_reach
from lab.errors import did_you_mean
from lab.run.config import ConfigError

from .curves import Curve

SCALARS = {"kl": "eval/kl", "accuracy": "eval/rewards/accuracies", "margin": "eval/rewards/margins", "loss": "eval/loss"}
"""Levels by name, and the scalar of each."""


@dataclass(frozen=True)
class Level:
    """A place on the runs' curves.

    Attributes:
        name: "end", "step", or one of SCALARS.
        value: The step or level; None for the furthest that every compared run has reached.
    """

    name: str
    value: float | None = None

    @property
    def scalar(self) -> str | None:
        """The scalar whose level it is, or None."""
        return SCALARS.get(self.name)


def parse_level(text: object) -> Level:
    """Return the level that a text names: "end", "step=100", "kl", "kl=2", "accuracy=0.7", "margin", "loss".

    Raises ConfigError for any other text.
    """
    name, _, value = str(text).strip().partition("=")
    known = ("end", "step", *SCALARS)
    if name not in known:
        raise ConfigError(
            f"Runs cannot be compared at {name!r}; give end, step=100, or {', '.join(SCALARS)}, with =VALUE for a certain level."
            f"{did_you_mean(name, known)}"
        )
    try:
        number = float(value) if value else None
        if number is not None and not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{value!r} in {text!r} is no number; write it as in {name}=2.") from None
    if (name == "step") != (number is not None) and name in ("end", "step"):
        raise ConfigError(f"{text!r} does not work: give end alone, and step with a number, as in step=100.")
    if number is not None and ((name == "step" and number < 0) or (name == "accuracy" and not 0 <= number <= 1)):
        raise ConfigError(f"{text!r} does not work: no run can reach it; a step is at least 0, an accuracy between 0 and 1.")
    return Level(name, number)


def common_level(curves: Sequence[Curve], scalar: str) -> float:
    """Return the furthest level that every curve reaches; NaN if one has none. Of a loss, which falls, the lowest."""
    sign = _sign(scalar)
    reached = [np.max(sign * known) if len(known := _known(curve, scalar)[1]) else math.nan for curve in curves]
    return math.nan if any(math.isnan(value) for value in reached) else float(sign * min(reached))


def step_at(curve: Curve, level: Level, value: float | None) -> float:
    """Return the (fractional) step at which a curve is at a level; NaN if it never is.

    A level of a measure is where it is reached first, linear between evaluations.

    Args:
        curve: The curve.
        level: The kind of level.
        value: Its value; None only for "end".
    """
    if level.scalar is None:
        step = float(curve.steps[-1]) if value is None else value
        return step if curve.steps[0] <= step <= curve.steps[-1] else math.nan
    assert value is not None
    steps, values = _known(curve, level.scalar)
    sign = _sign(level.scalar)
    return first_reach(pd.Series(sign * values, index=steps), sign * value) if len(steps) else math.nan


def share_of_way(curve: Curve, scalar: str, value: float) -> float:
    """Return how much of its way a curve has made at a level: 0 at its first value or before, 1 at its furthest.

    A curve whose furthest is the evaluation before training has made none of its way there; one with a single evaluation has no
    way: NaN.
    """
    steps, values = _known(curve, scalar)
    values = _sign(scalar) * values
    way = np.max(values) - values[0]
    if way <= 0:
        return 0.0 if len(curve.steps) > 1 and steps[0] == curve.steps[0] else math.nan
    return max(0.0, float((_sign(scalar) * value - values[0]) / way))


def value_at(steps: np.ndarray, values: np.ndarray, step: float) -> np.ndarray:
    """Interpolate values linearly to a step, leaving out evaluations without a value.

    Args:
        steps: Steps, [K].
        values: Values, [K] or [K, P].
        step: The step.

    Returns:
        [] or [P]; NaN outside the steps with values.
    """
    known = ~np.isnan(values.reshape(len(values), -1)).any(1)
    steps, values = steps[known], values[known]
    if math.isnan(step) or not len(steps) or not steps[0] <= step <= steps[-1]:
        return np.full(values.shape[1:], np.nan)
    after = int(np.searchsorted(steps, step))
    if steps[after] == step:
        return np.asarray(values[after])
    share = (step - steps[after - 1]) / (steps[after] - steps[after - 1])
    return np.asarray((1 - share) * values[after - 1] + share * values[after])


def _known(curve: Curve, scalar: str) -> tuple[np.ndarray, np.ndarray]:
    values = curve.scalars.get(scalar, np.full(len(curve.steps), np.nan))
    known = np.isfinite(values)  # a curve towards infinity passes no level at a known step
    return curve.steps[known], values[known]


def _sign(scalar: str) -> int:
    """Return 1 for a measure that rises in training, -1 for one that falls."""
    return -1 if scalar == "eval/loss" else 1
