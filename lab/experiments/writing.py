"""Declarations as text: values typed into a field, the YAML file of an experiment, and the same experiment as Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.run.config import ConfigError
from lab.run.yaml_text import YamlError, read_yaml, write_flow

from .declaration import Declaration


def parse_values(text: str) -> list[Any]:
    """Return the values in a text, separated by commas and written as in YAML: "0.6, 0.9" or "dpo, {name: simpo, beta: 2}".

    Raises:
        ConfigError: If the text is no list of values.
    """
    try:
        values = read_yaml(f"[{text}\n]")
    except YamlError:
        values = None
    if not isinstance(values, list):
        raise ConfigError(f"{text.strip()!r} is no list of values; separate values by commas, as in 0.6, 0.9.")
    return values


def write_values(value: Any) -> str:
    """Return the text that `parse_values` reads as a value, or as the values of a list."""
    return ", ".join(_flow(each) for each in (value if isinstance(value, (list, tuple)) else [value]))


def as_yaml(name: str, declaration: Declaration) -> str:
    """Return the YAML file that declares an experiment; `read_declaration` reads it again."""
    content = declaration.as_json()
    parts = {"name": name, "objectives": _short(content["objectives"]), **content["settings"], "seeds": _seeds(declaration.seeds)}
    parts |= {key: content[key] for key in ("with_seed", "compare") if content[key]}
    lines = [f"{key}: {_flow(value)}" for key, value in parts.items() if key != "objectives"]
    objectives = ["objectives:", *(f"  - {_flow(entry)}" for entry in parts["objectives"])]
    return "\n".join([lines[0], *objectives, *lines[1:], ""])


def as_python(name: str, declaration: Declaration) -> str:
    """Return Python code that runs the same experiment."""
    content = declaration.as_json()
    given: dict[str, Any] = {**content["settings"], "seeds": _seeds(declaration.seeds)}
    given |= {key: content[key] for key in ("with_seed", "compare") if content[key]} | {"name": name}
    objectives = "".join(f"        {entry!r},\n" for entry in _short(content["objectives"]))
    arguments = "".join(f"    {key}={value!r},\n" for key, value in given.items())
    return f"import lab\n\nexperiment = lab.sweep(\n    [\n{objectives}    ],\n{arguments})"


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    return write_flow(value)


def _short(objectives: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return objectives without anything but a name as that name."""
    return [entry["name"] if len(entry) == 1 else dict(entry) for entry in objectives]


def _seeds(seeds: Sequence[int]) -> int | list[int]:
    return len(seeds) if tuple(seeds) == tuple(range(len(seeds))) else list(seeds)
