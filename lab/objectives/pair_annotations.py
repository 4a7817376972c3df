"""Use of the annotations of a pair, its weight and its preference degree, by an objective."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .base import Objective

DEGREE_PARAMETERS = ("degree_margin", "annotated_degrees")
"""Parameters of built-in objectives that let the annotated degree of a pair enter its loss."""


def annotation_use(objective: Objective) -> str:
    """Return one sentence that says whether an objective uses the weight and the degree of a pair (`lab.pairs.Pair`).

    The weight multiplies the loss of the pair in every objective; the degree enters the loss where `uses_degree` is true.
    """
    switches = dict(_switches(objective))
    if objective.uses_degree:
        on = [name if value is True else f"{name} = {value:g}" for name, value in switches.items() if value]
        set_by = f" ({', '.join(on)})" if on else ""
        return f"{objective.name} uses a pair's weight and its degree{set_by}."
    if switches:
        return f"{objective.name} uses a pair's weight; its degree only with {' or '.join(switches)}."
    return f"{objective.name} uses a pair's weight, not its degree."


def _switches(objective: Objective, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the parameters that let the degree in, also those of an objective inside this one (SPO's base)."""
    for name, value in objective:
        if name in DEGREE_PARAMETERS:
            yield f"{prefix}{name}", value
        elif isinstance(value, Objective):
            yield from _switches(value, f"{prefix}{name}.")
