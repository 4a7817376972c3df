"""Judges for the three kinds of answers: a number, a choice and a function.

Each compares an answer with the right one and with answers that follow from a known misconception, whose reason it then returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .registry import Verdict

__all__ = ["choice", "function", "number"]

Wrong = Sequence[tuple[float, str]]
"""Values that follow from a misconception, each with the reason why it is wrong."""

WrongFunctions = Sequence[tuple[Callable[..., float], str]]
"""Functions that follow from a misconception, each with the reason why it is wrong."""


def number(
    answer: Any, right: float, *, why: str, wrong: Wrong = (), otherwise: str = "", relative: float = 0.02, absolute: float = 0.0
) -> Verdict:
    """Judge a number.

    Args:
        answer: The student's answer; anything that `float` accepts, but no text.
        right: The right value, computed by the library.
        why: Why it is right.
        wrong: Values of known misconceptions, each with its reason.
        otherwise: A hint for any other value, which must not contain the right one.
        relative: Largest difference that still counts as equal, as a share of the right value.
        absolute: Such a difference in the unit of the value; the larger of both counts.
    """
    value = _as_float(answer)
    if value is None:
        return Verdict(False, f"{_short(answer)} is not a number; the answer is one number, such as 0.25.")

    def equals(other: float) -> bool:
        return math.isclose(value, other, rel_tol=relative, abs_tol=absolute)

    if equals(right):
        return Verdict(True, why)
    reasons = (reason for other, reason in wrong if equals(other))
    return Verdict(False, next(reasons, otherwise or f"{value:g} is not the value that the library computes."))


def choice(answer: Any, options: Mapping[str, tuple[bool, str]]) -> Verdict:
    """Judge a choice, such as "b".

    Args:
        answer: The student's answer; upper and lower case count as equal.
        options: All options, each with whether it is right and the reason.
    """
    key = answer.strip().lower() if isinstance(answer, str) else ""
    if key not in options:
        return Verdict(False, f"{_short(answer)} is none of the choices; write one of {', '.join(map(repr, options))}.")
    return Verdict(*options[key])


def function(
    answer: Any,
    right: Callable[..., float],
    points: Sequence[Mapping[str, float]],
    *,
    why: str,
    wrong: WrongFunctions = (),
    tolerance: float = 1e-6,
) -> Verdict:
    """Judge a function of numbers by its values at some points.

    Args:
        answer: The student's function; called with the arguments of each point by name.
        right: The library's value at a point, called in the same way.
        points: The points.
        why: Why the right function is right.
        wrong: Functions of known misconceptions, each with its reason.
        tolerance: Largest difference that still counts as equal, relative to the right value.
    """
    if not callable(answer):
        return Verdict(False, f"{_short(answer)} is not a function; write the name of your function, without parentheses.")
    values = []
    for point in points:
        place = ", ".join(f"{name} = {value:g}" for name, value in point.items())
        try:
            value = _as_float(answer(**point))
        except Exception as error:  # code of the student, which may raise anything
            return Verdict(False, f"Your function raised {type(error).__name__} at {place}: {error}")
        if value is None:
            return Verdict(False, f"Your function did not return a number at {place}.")
        values.append(value)

    def equals(other: Callable[..., float]) -> bool:
        return all(math.isclose(v, other(**p), rel_tol=tolerance, abs_tol=1e-12) for v, p in zip(values, points))

    if equals(right):
        return Verdict(True, why)
    reason = next((f" {reason}" for other, reason in wrong if equals(other)), "")
    differs = next((v, p) for v, p in zip(values, points) if not math.isclose(v, right(**p), rel_tol=tolerance, abs_tol=1e-12))
    place = ", ".join(f"{name} = {value:g}" for name, value in differs[1].items())
    return Verdict(False, f"At {place} your function returns {differs[0]:.6g}, autograd {right(**differs[1]):.6g}.{reason}")


def _as_float(value: Any) -> float | None:
    """Return a number, or a tensor or array with one element, as a float; None for anything else."""
    if isinstance(value, bool | str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
