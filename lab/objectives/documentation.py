"""Docstring of an objective class: summary, formula, source, notation and parameters, from its declarations."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

_NOTATION = """Notation:
    Sums run over the tokens of an answer, in nats; y_w is the chosen answer, y_l the rejected one, x the prompt.
    log X₁ = log π(y_w|x) - log ref(y_w|x), log X₂ = log π(y_l|x) - log ref(y_l|x), h = log X₁ - log X₂;
    S_w, S_l = log π(y_w|x), log π(y_l|x), in formulas without x; R_w, R_l: those of the reference, log ref(y_w), log ref(y_l);
    avg_w = S_w / n_w = avg log π(y_w), avg_l = S_l / n_l = avg log π(y_l) with n_w, n_l tokens; σ: logistic function; sg:
    stop-gradient. Losses and terms have one entry per pair, shape [B]."""


def documentation(doc: str, formula: str, source: str, fields: Mapping[str, FieldInfo]) -> str:
    """Return the docstring of an objective.

    Args:
        doc: Docstring in the class: a summary and, after an empty line, the rest.
        formula: Text of the formula, or "".
        source: Paper and equation, or "".
        fields: The parameters.
    """
    summary, _, body = inspect.cleandoc(doc).partition("\n\n")
    parts = (
        summary,
        textwrap.indent(formula, "    "),
        f"Source: {source}." if source else "",
        body,
        _NOTATION if formula else "",
        _parameter_list(fields),
    )
    return "\n\n".join(part for part in parts if part)


def extra_of(info: FieldInfo) -> dict[str, Any]:
    """Return what `parameter` declares beyond pydantic: symbol, unit, recommended, changeable."""
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def _parameter_list(fields: Mapping[str, FieldInfo]) -> str:
    """One line per parameter: name (symbol, unit, limits, recommended range, default): meaning."""
    lines = ["Parameters:"] if fields else []
    for name, info in fields.items():
        extra = extra_of(info)
        rules = [(rule, attribute) for rule in info.metadata for attribute in _SIGNS if hasattr(rule, attribute)]
        limits = [f"{_SIGNS[attribute]} {getattr(rule, attribute):g}" for rule, attribute in rules]
        recommended = extra.get("recommended")
        details = [
            *(detail for detail in (extra.get("symbol"), extra.get("unit")) if detail and detail != name),
            *limits,
            *([f"recommended {recommended[0]:g} to {recommended[1]:g}"] if recommended else []),
            f"default {info.default}",
        ]
        lines.append(f"    {name} ({', '.join(details)}): {info.description or ''}")
    return "\n".join(lines)


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
