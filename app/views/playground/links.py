"""The Playground's settings in its address, so that a link reproduces the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.state.recipe import build_objective, changed_parameters
from lab.objectives import Objective
from lab.teaching import Plane, format_pairs, parse_pairs

Spec = dict[str, Any]


def written_objective(objective: Objective) -> str:
    """Return an objective's name, or its specification as JSON if parameters differ from the defaults."""
    changed = changed_parameters(objective)
    return json.dumps({"name": objective.name, **changed}, separators=(",", ":")) if changed else objective.name


def read_objective(text: str) -> Spec:
    """Parse an objective in a link. Raises ValueError with one sentence for an unknown objective or parameter."""
    try:
        spec = json.loads(text) if text.startswith("{") else {"name": text}
    except json.JSONDecodeError as error:
        raise ValueError(f"The address names the objective {text!r}, which is not JSON ({error.msg}).") from error
    if not isinstance(spec.get("name"), str):
        raise ValueError(f"The address describes an objective without a name: {text!r}.")
    objective = build_objective(spec)
    return {"name": objective.name, **changed_parameters(objective)}


def written_plane(plane: Plane) -> dict[str, str]:
    """Return the parameters that differ from the default plane."""
    usual = Plane()
    changes = {
        name: f"{getattr(plane, name)[0]:g},{getattr(plane, name)[1]:g}"
        for name in ("log_x1", "log_x2", "tokens", "ref")
        if getattr(plane, name) != getattr(usual, name)
    }
    if plane.batch != usual.batch:
        changes["batch"] = format_pairs(plane.batch)
    if plane.seed != usual.seed:
        changes["seed"] = str(plane.seed)
    if plane.statistics != usual.statistics:
        changes["statistics"] = plane.statistics
    return changes


def read_plane(params: Mapping[str, str]) -> Plane:
    """Parse the plane in a link; missing parameters have their defaults. Raises ValueError with one sentence."""
    given: dict[str, Any] = {}
    for name, kind in (("log_x1", float), ("log_x2", float), ("tokens", int), ("ref", float)):
        if name in params:
            given[name] = _two(name, params[name], kind)
    if "batch" in params:
        given["batch"] = parse_pairs(params["batch"])
    if "seed" in params:
        if not params["seed"].isdecimal():
            raise ValueError(f"The address has seed = {params['seed']!r}; it must be a whole number.")
        given["seed"] = int(params["seed"]) % 2**31
    if "statistics" in params:
        given["statistics"] = params["statistics"]
    return Plane(**given)


def _two(name: str, text: str, kind: type) -> Sequence[Any]:
    try:
        one, other = (kind(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"The address has {name} = {text!r}; it must be two numbers with a comma between them.") from None
    return one, other
