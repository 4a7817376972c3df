"""An objective's parameters as sliders, whose ranges follow from the parameters' declarations."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st
from pydantic.fields import FieldInfo

from app.widgets.forms import explain, is_objective, title, widget
from lab.objectives import OBJECTIVES, Objective

MANTISSAS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
DECADES, FEW_DECADES = 2, 1
"""Decades that a slider reaches above and below the default where the parameter is open upwards: a wide and a narrow slider."""
BY_DEGREE = ("degree_margin", "annotated_degrees")
"""Parameters that act on pairs with an annotated degree alone."""


def knobs(
    kind: type[Objective], start: Mapping[str, Any], key: str, on_change: Callable[[], None], *, wide: bool = False
) -> dict[str, Any]:
    """Draw a slider for every real number and the form's widgets for the rest; return the values by name, nested ones as mappings.

    Parameters that the others turn off are left out, and those that act on pairs with an annotated degree, which this page has not.

    Args:
        kind: The objective.
        start: Initial values that are not the defaults.
        key: Prefix of the widgets' keys.
        on_change: Callback of every widget.
        wide: Let the sliders reach far beyond the recommended ranges.
    """
    defaults = {name: start.get(name, field.default) for name, field in kind.model_fields.items()}
    now = {name: st.session_state.get(f"{key}.{name}", default) for name, default in defaults.items()}
    values = {}
    for name, field in kind.model_fields.items():
        if name in kind.unused_parameters(now) or (name in BY_DEGREE and not defaults[name]):
            continue
        here = f"{key}.{name}"
        if is_objective(field):
            values[name] = _nested(name, field, defaults[name], here, on_change, wide)
        elif field.annotation is float:
            values[name] = st.select_slider(  # type: ignore[call-overload]  # its overloads do not know a format_func
                title(name, field),
                stops(field, float(defaults[name]), wide=wide),
                value=float(defaults[name]),
                format_func=lambda value: f"{value:.4g}",
                key=here,
                help=explain(name, field),
                on_change=on_change,
                persist_state="page",
            )
        else:
            values[name] = widget(name, field, defaults[name], here, keep="page", on_change=on_change)
    return values


def stops(field: FieldInfo, start: float, *, wide: bool = False) -> list[float]:
    """Return the values of a slider, ascending, with the default and `start` among them.

    Between two limits they are even steps. Otherwise a narrow slider covers the recommended range, with as much again above it,
    and a wide one some decades above a limit of 0, or even steps around the default.
    """
    limits = {name: float(getattr(m, name)) for m in field.metadata for name in ("gt", "ge", "lt", "le") if hasattr(m, name)}
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    recommended = None if wide else typing.cast("list[float] | None", extra.get("recommended"))
    default = float(field.default)
    if low is not None and high is not None:
        values = {low + (high - low) * step / 100 for step in range(101)}
    elif recommended and recommended[0] <= 0:
        values = {recommended[0] + (2 * recommended[1] - recommended[0]) * step / 40 for step in range(41)}
    elif recommended:
        values = {
            v for v in _decades(math.sqrt(recommended[0] * recommended[1]), 3) if recommended[0] / 2 <= v <= 2 * recommended[1]
        }
    elif low == 0:
        values = {0.0} | _decades(default or 0.1, DECADES if wide else FEW_DECADES)
    else:
        reach = (10 if wide else 3) * max(1.0, abs(default))
        values = {default + reach * step / 50 for step in range(-50, 51)}
    inside = {value for value in (float(f"{value:.10g}") for value in values) if _allowed(value, limits)}
    return sorted(inside | {default, start})


def _decades(middle: float, reach: int) -> set[float]:
    first = math.floor(math.log10(middle)) - reach
    return {mantissa * 10.0**power for power in range(first, first + 2 * reach + 1) for mantissa in MANTISSAS}


def _allowed(value: float, limits: Mapping[str, float]) -> bool:
    return (
        value > limits.get("gt", -math.inf)
        and value >= limits.get("ge", -math.inf)
        and value < limits.get("lt", math.inf)
        and value <= limits.get("le", math.inf)
    )


def _nested(name: str, field: FieldInfo, default: Any, key: str, on_change: Callable[[], None], wide: bool) -> dict[str, Any]:
    """Draw widgets for an objective inside another one; return its specification."""
    spec = {"name": default} if isinstance(default, str) else dict(default)
    names = sorted(n for n, kind in OBJECTIVES.items() if not any(is_objective(f) for f in kind.model_fields.values()))
    chosen = st.selectbox(
        title(name, field),
        names,
        index=names.index(spec["name"]),
        key=f"{key}.name",
        help=explain(name, field),
        on_change=on_change,
        persist_state="page",
    )
    start = {k: v for k, v in spec.items() if k != "name"} if chosen == spec["name"] else {}
    return {"name": chosen, **knobs(OBJECTIVES[chosen], start, f"{key}.{chosen}", on_change, wide=wide)}
