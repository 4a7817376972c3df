"""Parameters of an objective from the command line: `--set KEY=VALUE`."""

from __future__ import annotations

from typing import Any


def assignment(text: str) -> tuple[str, str]:
    """Split KEY=VALUE. Raises ValueError for other text."""
    path, sign, value = text.partition("=")
    if not sign or not path.strip():
        raise ValueError(f"--set {text!r} is not KEY=VALUE; write for example --set beta=0.1.")
    return path.strip(), value.strip()


def with_parameters(objective: Any, assignments: list[str]) -> dict[str, Any]:
    """Return an objective, by name or specification, with parameters KEY=VALUE; "base.r1=0.7" sets one of a nested objective."""
    from lab.objectives import OBJECTIVES  # imports pydantic, which `show` should not wait for
    from lab.run.config import TrainConfig

    spec: dict[str, Any] = {"name": objective} if isinstance(objective, str) else dict(objective)
    for text in assignments:
        path, value = assignment(text)
        *parents, last = path.split(".")
        if [*parents, last] == ["name"]:
            raise ValueError("--set name=... would train another objective than the one you named; use --objective NAME.")
        kind = OBJECTIVES.get(str(spec.get("name")))
        if not parents and kind is not None and last in TrainConfig.model_fields and last not in kind.model_fields:
            flag = f"--{last.replace('_', '-')}"
            raise ValueError(f"--set {last}=... sets a parameter of the objective, and {last} is a setting; use {flag} {value}.")
        nested = spec
        for parent in parents:
            inner = nested.get(parent)
            nested[parent] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
            nested = nested[parent]
        nested[last] = value
    return spec
