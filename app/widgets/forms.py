"""Widgets made from pydantic fields: a setting that is declared in the library is in the form.

No widget has limits of its own: a browser that refuses a number keeps the old one without telling the server, so a run would start
with another value than the one on the screen. The library validates what is typed. Browsers refuse whole numbers beyond 2**53.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st
from pydantic.fields import FieldInfo

from app.text.labels import field_label, objective_label
from app.text.plain import plain
from lab.objectives import OBJECTIVES, Objective

COLUMNS = 3
LIMITS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}


def objective_fields(kind: type[Objective], start: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Draw a widget for every parameter of an objective that its other parameters leave in use; return their values by name.

    Args:
        kind: The objective.
        start: Initial values that are not the defaults.
        key: Prefix of the widgets' keys.
    """
    fields = kind.model_fields
    defaults = {name: start.get(name, field.default) for name, field in fields.items()}
    now = {name: st.session_state.get(f"{key}.{name}", default) for name, default in defaults.items()}
    unused = kind.unused_parameters(now)
    nested = [name for name in fields if is_objective(fields[name])]
    plain_fields = {name: field for name, field in fields.items() if name not in unused and name not in nested}
    values: dict[str, Any] = {name: _nested_objective(name, fields[name], defaults[name], f"{key}.{name}") for name in nested}
    return values | grid(plain_fields, defaults, key)


def grid(fields: Mapping[str, FieldInfo], defaults: Mapping[str, Any], key: str, columns: int = COLUMNS) -> dict[str, Any]:
    """Draw widgets side by side; return their values by field name."""
    values = {}
    for first in range(0, len(fields), columns):
        row = list(fields.items())[first : first + columns]
        for column, (name, field) in zip(st.columns(columns), row):
            with column:
                values[name] = widget(name, field, defaults[name], f"{key}.{name}")
    return values


def widget(
    name: str,
    field: FieldInfo,
    default: Any,
    key: str,
    keep: Literal["page", "session"] = "session",
    on_change: Callable[[], None] | None = None,
) -> Any:
    """Draw the widget that fits a field's type; return its value.

    Args:
        name: Python name of the field.
        field: Its declaration.
        default: Initial value.
        key: Key of the widget.
        keep: How long an entered value is kept while another page is shown.
        on_change: Callback of the widget.
    """
    label = title(name, field)
    common: dict[str, Any] = {"key": key, "help": explain(name, field), "persist_state": keep, "on_change": on_change}
    kind, optional = _kind(field)
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        return st.selectbox(label, choices, index=choices.index(default), **common)
    if kind is bool:
        return st.toggle(label, value=default, **common)
    if kind is int and (word := _word(field)):
        chosen = st.session_state.get(f"{key}.{word[0]}", default == word[0])
        start = None if default == word[0] else default
        number = st.number_input(
            label, value=start, step=1, placeholder=word[1] if chosen else "not set", disabled=chosen, **common
        )
        by_word = st.toggle(word[1], value=chosen, key=f"{key}.{word[0]}", persist_state=keep, on_change=on_change)
        return word[0] if by_word else number
    if kind is int:
        return st.number_input(label, value=default, step=1, placeholder="not set" if optional else None, **common)
    if kind is float:
        return st.number_input(label, value=float(default), step=_step(default), format="%.6g", **common)
    if kind is str and (suggested := _choices(field)):
        chosen = st.selectbox(
            label,
            list(suggested),
            list(suggested).index(default),
            lambda value: suggested.get(value, value),
            accept_new_options=True,
            **common,
        )
        return chosen or default
    if kind is str:
        return st.text_input(label, value=default, **common)
    raise TypeError(f"There is no widget for the setting {name} of type {kind}; add one to app.widgets.forms.")


def _nested_objective(name: str, field: FieldInfo, default: Any, key: str) -> dict[str, Any]:
    """Draw widgets for an objective inside another one; return its specification."""
    spec = {"name": default} if isinstance(default, str) else dict(default)
    with st.container(border=True):
        names = sorted(n for n, kind in OBJECTIVES.items() if not any(is_objective(f) for f in kind.model_fields.values()))
        chosen = st.selectbox(
            title(name, field),
            names,
            index=names.index(spec["name"]),
            format_func=objective_label,
            key=f"{key}.name",
            help=explain(name, field),
            persist_state="session",
        )
        start = {k: v for k, v in spec.items() if k != "name"} if chosen == spec["name"] else {}
        return {"name": chosen, **objective_fields(OBJECTIVES[chosen], start, f"{key}.{chosen}")}


def is_objective(field: FieldInfo) -> bool:
    """Return whether a field holds another objective."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, Objective)


def _kind(field: FieldInfo) -> tuple[Any, bool]:
    """Return a field's type without None, and whether it may be None."""
    if typing.get_origin(field.annotation) in (types.UnionType, typing.Union):
        kinds: Sequence[Any] = typing.get_args(field.annotation)
        return next(kind for kind in kinds if kind is not type(None)), type(None) in kinds
    return field.annotation, False


def _choices(field: FieldInfo) -> dict[str, str]:
    """Return the texts that a field suggests besides any other text, with their labels; empty if it suggests none."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return typing.cast("dict[str, str]", extra.get("choices", {}))


def _word(field: FieldInfo) -> list[str] | None:
    """Return the word that a field takes in place of a number, and its label; None if it takes none."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return typing.cast("list[str] | None", extra.get("word"))


def title(name: str, field: FieldInfo) -> str:
    """Return a widget's label: readable name, the paper's symbol, unit."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    symbol = f" {extra['symbol']}" if extra.get("symbol") and extra["symbol"] != name else ""
    return f"{field_label(name)}{symbol}" + (f" ({extra['unit']})" if extra.get("unit") else "")


def explain(name: str, field: FieldInfo) -> str:
    """Return a widget's help text as Markdown: the field's Python name, its meaning, limits and recommended range."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    description = (field.description or "").strip()
    begins_with_value = description[1:2] == ":"  # "d: both pilots ..." explains the value d
    first = description[:1] if begins_with_value else description[:1].upper()
    parts = [first + description[1:].rstrip(".")] if description else []
    limits = [f"{text} {getattr(m, name):g}" for m in field.metadata for name, text in LIMITS.items() if hasattr(m, name)]
    if limits:
        parts.append(f"Must be {' and '.join(limits)}")
    if extra.get("recommended"):
        low, high = typing.cast(list[float], extra["recommended"])
        parts.append(f"Recommended: {low:g} to {high:g}")
    return f"`{name}`: {plain(''.join(f'{part}. ' for part in parts))}"


def _step(value: float) -> float:
    """Return what one press of + adds: a tenth of the value's power of ten."""
    return 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 0.01
