"""The content of the form for an experiment: texts by field, read and checked by the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lab.experiments import Declaration, check_comparison, check_value, declare, parse_values, write_values
from lab.objectives import OBJECTIVES
from lab.run.config import ConfigError, TrainConfig
from lab.run.yaml_text import YamlError, read_yaml

LABEL = "label"
OF_AN_OBJECTIVE = ("learning_rate", LABEL)
"""Fields of an objective's entry besides its parameters."""

ALWAYS = ("pairs", "model", "learning_rate", "steps", "batch_size")
"""Settings that are always in the form."""

FIRST_SETTINGS = {name: write_values(TrainConfig.model_fields[name].default) for name in ALWAYS}
"""Text with which these begin."""


@dataclass(frozen=True)
class Entry:
    """One line of the objectives.

    Attributes:
        objective: Name of the objective.
        values: Text of each parameter, of `label`, and of settings for this objective alone; empty ones are left out.
    """

    objective: str = "dpo"
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """Everything that the form holds.

    Attributes:
        name: Name of the experiment; empty for one that is made from the time.
        entries: The objectives.
        settings: Text of each setting: one value, or several separated by commas.
        seeds: Their number, or a list of them in brackets.
        with_seed: Settings that go with the seed, as YAML.
        metrics: Measures to compare; empty for the best that is recorded.
        at: Where variants are compared; empty for after training and at equal KL.
        baseline: Label of the variant that others are compared with; empty for none.
        smallest: Text of the smallest difference that matters; empty for that of each measure.
    """

    name: str = ""
    entries: tuple[Entry, ...] = (Entry("dpo"), Entry("sgdpo"))
    settings: Mapping[str, str] = field(default_factory=lambda: dict(FIRST_SETTINGS))
    seeds: str = "5"
    with_seed: str = ""
    metrics: tuple[str, ...] = ()
    at: tuple[str, ...] = ()
    baseline: str = ""
    smallest: str = ""


def draft_of(name: str, declaration: Declaration) -> Draft:
    """Return the form's content for a declaration."""
    entries = tuple(
        Entry(
            entry["name"],
            {key: str(value) if key == LABEL else write_values(value) for key, value in entry.items() if key != "name"},
        )
        for entry in declaration.objectives
    )
    with_seed = {key: list(values) for key, values in declaration.with_seed.items()}
    first = {key: text for key, text in FIRST_SETTINGS.items() if key not in with_seed}
    compare = declaration.compare
    seeds = declaration.seeds
    return Draft(
        name,
        entries,
        first | {key: write_values(value) for key, value in declaration.settings.items()},
        str(len(seeds)) if seeds == tuple(range(len(seeds))) else write_values([list(seeds)]),
        ", ".join(f"{key}: {write_values([values])}" for key, values in with_seed.items()),
        _several(compare.get("metrics")),
        _several(compare.get("at")),
        str(compare.get("baseline") or ""),
        "" if compare.get("smallest") is None else str(compare["smallest"]),
    )


def declaration_of(draft: Draft) -> Declaration:
    """Return the declaration that a form means.

    Raises:
        ConfigError: For a text that cannot be read, or values that do not go together.
    """
    return declare(
        [_entry(entry) for entry in draft.entries],
        _seeds(draft.seeds),
        {name: parse_values(text) for name, text in draft.settings.items() if text.strip()},
        _with_seed(draft.with_seed),
        _comparison(draft),
    )


def problems(draft: Draft) -> dict[str, str]:
    """Return a sentence for each field whose text is not possible by itself, by the field's name.

    Fields of an objective are named by its place: "0.beta".
    """
    known: dict[str, str] = {}

    @contextmanager
    def of(place: str) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            known[place] = str(error)

    for at, entry in enumerate(draft.entries):
        for name, text in entry.values.items():
            if name != LABEL:
                with of(f"{at}.{name}"):
                    _each(text, partial(check_value, name, objective=entry.objective))
    for name, text in draft.settings.items():
        if text.strip():
            with of(name):
                _each(text, partial(check_value, name))
    with of("seeds"):
        declare("dpo", _seeds(draft.seeds))
    with of("with_seed"):
        declare("dpo", 1, {}, _with_seed(draft.with_seed))
    for part in ("metrics", "at", "smallest"):
        with of(part):
            check_comparison({key: value for key, value in _comparison(draft).items() if key == part}, [])
    return known


def parameters_of(objective: str) -> list[str]:
    """Return the names of an objective's parameters, in their order."""
    return list(OBJECTIVES[objective].model_fields)


def _each(text: str, check: Callable[[Any], None]) -> None:
    for value in parse_values(text):
        check(value)


def _entry(entry: Entry) -> dict[str, Any]:
    values: dict[str, Any] = {"name": entry.objective}
    for name, text in entry.values.items():
        if text.strip():
            values[name] = text.strip() if name == LABEL else parse_values(text)
    return values


def _seeds(text: str) -> Any:
    values = parse_values(text)
    return values[0] if len(values) == 1 else values


def _with_seed(text: str) -> Any:
    try:
        return read_yaml(f"{{{text}\n}}")
    except YamlError:
        raise ConfigError(f"{text!r} is no list of settings; write it as in model: [base-0, base-1].") from None


def _comparison(draft: Draft) -> dict[str, Any]:
    parts: dict[str, Any] = {"metrics": list(draft.metrics), "at": list(draft.at), "baseline": draft.baseline}
    if draft.smallest.strip():
        parts["smallest"] = next(iter(parse_values(draft.smallest)), None)
    return {name: value for name, value in parts.items() if value or name == "smallest"}


def _several(value: Any) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(map(str, value))
