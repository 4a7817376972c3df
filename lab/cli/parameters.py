"""Parameters of an objective from the command line: `--set KEY=VALUE`."""

from __future__ import annotations

from typing import Any


def assignment(text: str) -> tuple[str, str]:
    """KEY and VALUE of KEY=VALUE. Raises ValueError where it is none."""
    path, sign, value = text.partition("=")
    if not sign or not path.strip():
        raise ValueError(f"--set {text!r} is not KEY=VALUE; write for example --set beta=0.1.")
    return path.strip(), value.strip()


def with_parameters(objective: Any, assignments: list[str]) -> dict[str, Any]:
    """An objective's name or specification with KEY=VALUE put in; "base.r1=0.7" reaches into a nested objective."""
    spec: dict[str, Any] = {"name": objective} if isinstance(objective, str) else dict(objective)
    for text in assignments:
        path, value = assignment(text)
        *parents, last = path.split(".")
        if [*parents, last] == ["name"]:
            raise ValueError("--set name=... would train another objective than the one you named; use --objective NAME.")
        place = spec
        for parent in parents:
            inner = place.get(parent)
            place[parent] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
            place = place[parent]
        place[last] = value
    return spec
