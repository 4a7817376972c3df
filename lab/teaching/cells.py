"""Source of a notebook cell that draws the picture of the Learn page from the library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from lab.glossary import FIELD_QUANTITIES
from lab.objectives import Objective

from .pair_numbers import PairNumbers, Point
from .plane import STEPS, Plane


def cell_source(
    objectives: Sequence[Objective],
    plane: Plane,
    *,
    quantity: str = "loss",
    point: Point = (0.0, 0.0),
    rate: float | None = None,
    steps: int = STEPS // 2,
) -> str:
    """Return the Python source of a notebook cell with the same fields, and descent from the same point.

    Args:
        objectives: The objectives, one figure each.
        plane: The plane.
        quantity: A key of `lab.glossary.FIELD_QUANTITIES`.
        point: Where descent begins, nats.
        rate: Step size, nats squared; None for the automatic one.
        steps: Steps of descent.

    Raises:
        ValueError: There is no objective, or no such quantity.
    """
    if not objectives:
        raise ValueError("There is no objective to draw; choose at least one.")
    if quantity not in FIELD_QUANTITIES:
        raise ValueError(f"There is no quantity {quantity!r} of a field; choose one of {', '.join(FIELD_QUANTITIES)}.")
    names = ["Plane", "descent", "landscape"]
    given = _plane(plane)
    if "PairNumbers" in given:
        names.insert(0, "PairNumbers")
    arguments = ["picture.data", "title=objective.name", f"quantity={quantity!r}", "paths=[path]", "rate=rate"]
    modules = ["import lab"]
    if quantity == "loss":  # whose colours and arrows disagree where the gradient holds a part fixed
        arguments.append("held=held_fixed(objective, plane.tokens)")
        modules.append("from lab.plots.landscapes.computed import held_fixed")
    lines = [
        *modules,
        "from lab.plots.landscapes.landscape import field_figure",
        f"from lab.teaching import {', '.join(names)}",
        "",
        "objectives = [",
        *(f"    {objective_source(objective)}," for objective in objectives),
        "]",
        f"plane = {given}",
        f"point = {_tuple(point)}  # log X1, log X2",
        "",
        "for objective in objectives:",
        "    picture = landscape(objective, plane)",
        f"    rate = {'picture.rate' if rate is None else repr(float(rate))}  # nats squared",
        f"    path = descent(objective, plane, point, steps={steps}, rate=rate)",
        f"    display(field_figure({', '.join(arguments)}))",
    ]
    return "\n".join(lines) + "\n"


def objective_source(objective: Objective) -> str:
    """Return the Python expression that makes an objective, with the parameters that differ from the defaults."""
    kind, usual = type(objective), type(objective)().spec()
    changed = {key: value for key, value in objective.spec().items() if key != "name" and usual.get(key, _MISSING) != value}
    return f"lab.OBJECTIVES[{kind.name!r}]({', '.join(f'{key}={value!r}' for key, value in changed.items())})"


_MISSING = object()


def _plane(plane: Plane) -> str:
    usual = Plane()
    changed = [
        f"{f.name}={_value(getattr(plane, f.name))}" for f in fields(plane) if getattr(plane, f.name) != getattr(usual, f.name)
    ]
    return f"Plane({', '.join(changed)})"


def _value(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], PairNumbers):
        return "(" + " ".join(f"{_pair(pair)}," for pair in value) + ")"
    return _tuple(value) if isinstance(value, tuple) else repr(value)


def _pair(pair: PairNumbers) -> str:
    return f"PairNumbers({pair.log_x1!r}, {pair.log_x2!r}, {_tuple(pair.tokens)}, {_tuple(pair.ref)})"


def _tuple(values: Sequence[float]) -> str:
    return "(" + ", ".join(map(repr, values)) + ")"
