"""The registry of objectives: every objective by name, and making one from its name and parameters."""

from __future__ import annotations

import os
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from lab.errors import did_you_mean, requirement

from .base import Objective
from .documentation import documentation
from .typeset import readable


class _Registry(dict[str, type[Objective]]):
    """Objective classes by name; an unknown name raises a KeyError that says which names there are."""

    def __missing__(self, name: object) -> NoReturn:
        raise KeyError(unknown_objective(name))


OBJECTIVES: dict[str, type[Objective]] = _Registry()
"""Every registered objective by name."""


def unknown_objective(name: object) -> str:
    """Return an error message for a name that no objective has; it lists the names."""
    return f"There is no objective {name!r}; choose one of {', '.join(sorted(OBJECTIVES))}.{did_you_mean(name, OBJECTIVES)}"


Kind = TypeVar("Kind", bound=type[Objective])


def register(kind: Kind) -> Kind:
    """Add an objective class to `OBJECTIVES` (decorator) and complete its docstring.

    The command line, the forms and the documentation list every registered objective. Formula, source, notation and parameters
    are added to the docstring. Registering a name again replaces the earlier class, unless that is a built-in objective.

    Raises:
        ValueError: The class is no Objective; its name is not a plain word, or is that of a built-in objective or of one in another
            file; a parameter has no default, or a type that no form can show.
    """
    if not (isinstance(kind, type) and issubclass(kind, Objective)):
        raise ValueError(f"{getattr(kind, '__name__', kind)!r} cannot be registered; derive the class from lab.Objective.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", kind.name):
        raise ValueError(f"{kind.__name__}.name is {kind.name!r}; give a name of letters, digits, _, - and .")
    existing = OBJECTIVES.get(kind.name)
    if existing is not None and existing.__module__.startswith(_OWN) and not kind.__module__.startswith(_OWN):
        raise ValueError(f"{kind.name!r} is the name of a built-in objective; choose another name.")
    if existing is not None and (place := _file_of(existing)) and _file_of(kind) not in (place, None):
        raise ValueError(f"{kind.name!r} is the name of the objective in {place}; choose another name.")
    declared: dict[str, Any] = dict(kind.__pydantic_fields__)
    for name, info in declared.items():
        if info.is_required():
            raise ValueError(f"{kind.name}: the parameter {name} has no default; give it one, which forms start from.")
        if not _fits_a_form(info.annotation):
            raise ValueError(
                f"{kind.name}: the parameter {name} is a {info.annotation}; use a number, a bool, a text or a Literal."
            )
    kind.__doc__ = documentation(kind.__doc__ or kind.title or kind.name, _formula_text(kind), kind.source, declared)
    OBJECTIVES[kind.name] = kind
    return kind


def _file_of(kind: type) -> str | None:
    """Return the file of the module that defines a class; None for a program or notebook, and where the file is gone."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file if kind.__module__ != "__main__" and file and os.path.exists(file) else None  # noqa: PTH110


_OWN = __name__.rsplit(".", 1)[0] + "."


def has_own_objectives() -> bool:
    """Return whether an objective is registered that is not built in."""
    return any(not kind.__module__.startswith(_OWN) for kind in OBJECTIVES.values())


def _formula_text(kind: type[Objective]) -> str:
    """Text of the formula with the default parameters; as declared where the defaults break a rule of the class."""
    try:
        objective = kind() if kind.formula else None
    except ValidationError:
        return kind.formula if isinstance(kind.formula, str) else ""
    return readable(objective.formula, objective.symbols()) if objective else ""


def _fits_a_form(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Literal:
        return True
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return all(part is type(None) or _fits_a_form(part) for part in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, (bool, int, float, str, Objective))


def make_objective(name: str, **parameters: Any) -> Objective:
    """Create an objective by its registered name.

        make_objective("sgdpo", beta=0.1, r1=0.7)

    Raises:
        ValueError: Unknown name or parameter (the message lists the known ones), or a value out of range.
    """
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise ValueError(unknown_objective(name))
    kind = OBJECTIVES[name]
    for key in parameters:
        if key not in kind.model_fields:
            fields = ", ".join(kind.model_fields) or "none"
            raise ValueError(f"{name} has no parameter {key!r}; it has {fields}.{did_you_mean(key, kind.model_fields)}")
    try:
        return kind(**parameters)
    except ValidationError as error:
        raise ValueError("; ".join(_sentence(name, details) for details in error.errors()) + ".") from error


def _sentence(name: str, details: Mapping[str, Any]) -> str:
    field_name = ".".join(map(str, details["loc"]))
    return f"{name}: {field_name} = {details['input']!r}: {requirement(details)}" if field_name else requirement(details)
