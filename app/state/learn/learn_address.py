"""The Learn page's state, and the parameters of its address, so that a link reproduces the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.state.recipe import build_objective, changed_parameters
from lab.glossary import FIELD_QUANTITIES
from lab.teaching import Plane, Statistics, format_pairs, parse_pairs

Spec = dict[str, Any]

SLOTS = ("A", "B", "C")
VIEWS = {
    "field": "Field",
    "curves": "Curves",
    "batch": "Small batch",
    "pilots": "Pilots",
    "degrees": "Degrees",
    "model": "Step by step",
}
"""Views of the page by their name in the address."""

DIRECTIONS = {"margin": "margin", "log_x1": "log X₁", "log_x2": "log X₂"}
"""Axes of the curves by their name in the address: the margin log X₁ − log X₂ with both sides moving, or one side alone."""

ANSWER = "Cats are curious animals. They sleep most of the day, hunt mice at night, and purr when they feel safe."
"""Answer that the view of degrees begins with."""

MOST_DEGREES = 8

_STATISTICS: dict[Statistics, str] = {"this batch": "batch", "before the first step": "start"}
"""Names of the moving statistics in the address."""


@dataclass(frozen=True)
class LearnState:
    """Everything that the Learn page shows.

    Attributes:
        objectives: Specification of the objective of each slot in use.
        plane: The plane, the lengths and reference of its pair, and the small batch.
        point: The point (log X1, log X2) that is dragged, nats.
        quantity: The quantity that the field's colours show.
        rate: Step size of gradient descent, nats squared; None for one that fits the field.
        view: A key of `VIEWS`.
        along: A key of `DIRECTIONS`, the axis of the curves.
        text: The answer that is degraded.
        degrees: Number of degrees, the intact answer included.
        story: Id of the story that is told; "" for none.
        step: Step of the story, from 1.
        projector: Whether type and lines are large.
    """

    objectives: Mapping[str, Spec] = field(default_factory=lambda: {"A": {"name": "dpo"}, "B": {"name": "sgdpo"}})
    plane: Plane = field(default_factory=Plane)
    point: tuple[float, float] = (0.0, 0.0)
    quantity: str = "loss"
    rate: float | None = None
    view: str = "field"
    along: str = "margin"
    text: str = ANSWER
    degrees: int = 4
    story: str = ""
    step: int = 1
    projector: bool = False


def write_state(state: LearnState) -> dict[str, str]:
    """Return the address parameters of a state; parameters that have their default are left out, except the objectives."""
    usual = LearnState()
    params = {slot: _spec_text(spec) for slot, spec in state.objectives.items()} | _write_plane(state.plane)
    if state.point != usual.point:
        params["point"] = ",".join(f"{part:.4g}" for part in state.point)
    if state.rate is not None:
        params["rate"] = f"{state.rate:.4g}"
    params |= {
        name: str(getattr(state, name))
        for name in ("quantity", "view", "along", "text", "degrees", "story")
        if getattr(state, name) != getattr(usual, name)
    }
    if state.story:
        params["step"] = str(state.step)
    return params | ({"projector": "1"} if state.projector else {})


def read_state(params: Mapping[str, str]) -> tuple[LearnState, list[str]]:
    """Parse an address.

    Returns:
        The state, and one sentence for each parameter that is wrong; those have their defaults.
    """
    complaints: list[str] = []
    given: dict[str, Any] = {}
    usual = LearnState()

    def read(name: str, parse: Any) -> None:
        if name in params:
            try:
                given[name] = parse(params[name])
            except ValueError as error:
                complaints.append(" ".join(str(error).split()))

    if any(slot in params for slot in SLOTS):
        specs = {}
        for slot in SLOTS:
            try:
                if params.get(slot):
                    specs[slot] = read_objective(params[slot])
            except ValueError as error:
                complaints.append(" ".join(str(error).split()))
        given["objectives"] = specs or usual.objectives
    try:
        given["plane"] = _read_plane(params)
    except ValueError as error:
        complaints.append(" ".join(str(error).split()))
    plane = given.get("plane", usual.plane)
    read("point", lambda text: _inside(_two("point", text, float), plane))
    read("quantity", lambda text: _one_of("quantity", text, FIELD_QUANTITIES))
    read("rate", _rate)
    read("view", lambda text: _one_of("view", text, VIEWS))
    read("along", lambda text: _one_of("along", text, DIRECTIONS))
    read("text", str)
    read("degrees", lambda text: _whole("degrees", text, 2, MOST_DEGREES))
    read("story", str)
    read("step", lambda text: _whole("step", text, 1, 99))
    given["projector"] = params.get("projector") == "1"
    return LearnState(**given), complaints


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


def _spec_text(spec: Spec) -> str:
    return spec["name"] if len(spec) == 1 else json.dumps(spec, separators=(",", ":"))


def _write_plane(plane: Plane) -> dict[str, str]:
    usual = Plane()
    changes = {
        name: f"{getattr(plane, name)[0]:g},{getattr(plane, name)[1]:g}"
        for name in ("log_x1", "log_x2", "tokens", "ref")
        if getattr(plane, name) != getattr(usual, name)
    }
    if plane.seed != usual.seed:
        changes["seed"] = str(plane.seed)
    if plane.statistics != usual.statistics:
        changes["statistics"] = _STATISTICS[plane.statistics]
    if plane.batch != usual.batch:
        changes["batch"] = format_pairs(plane.batch)
    return changes


def _read_plane(params: Mapping[str, str]) -> Plane:
    given: dict[str, Any] = {}
    for name, kind in (("log_x1", float), ("log_x2", float), ("tokens", int), ("ref", float)):
        if name in params:
            given[name] = _two(name, params[name], kind)
    if "seed" in params:
        given["seed"] = _whole("seed", params["seed"], 0, 2**31 - 1)
    if "statistics" in params:
        names = {short: name for name, short in _STATISTICS.items()}
        given["statistics"] = names[_one_of("statistics", params["statistics"], names)]
    if "batch" in params:
        given["batch"] = parse_pairs(params["batch"])
    return Plane(**given)


def _two(name: str, text: str, kind: type) -> tuple[Any, Any]:
    try:
        first, second = (kind(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"The address has {name} = {text!r}; it must be two numbers with a comma between them.") from None
    if not (math.isfinite(first) and math.isfinite(second)):
        raise ValueError(f"The address has {name} = {text!r}; both numbers must be finite.")
    return first, second


def _inside(point: tuple[float, float], plane: Plane) -> tuple[float, float]:
    """Move a point that lies outside the plane to its edge."""
    return tuple(min(max(part, low), high) for part, (low, high) in zip(point, (plane.log_x1, plane.log_x2)))  # type: ignore[return-value]


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ValueError(f"The address has rate = {text!r}; it must be a number above 0.")
    return rate


def _whole(name: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(f"The address has {name} = {text!r}; it must be a whole number from {low} to {high}.")
    return int(text)


def _one_of(name: str, text: str, names: Mapping[str, Any]) -> str:
    if text not in names:
        raise ValueError(f"The address has {name} = {text!r}; choose one of {', '.join(names)}.")
    return text
