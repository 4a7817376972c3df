"""The runs that an experiment consists of: one per variant and seed, each with a key by the content of its settings."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import home
from lab.errors import did_you_mean
from lab.objectives import OBJECTIVES
from lab.run.config import ConfigError, TrainConfig
from lab.run.pair_versions import FOLLOW

from .declaration import Declaration

NOT_IN_KEY = ("name", "alerts", "alert_webhook", "alert_hosts", "trackers")
"""Settings that do not change what a run learns or records, so that they do not make it another run."""


@dataclass(frozen=True)
class PairSet:
    """The pairs of an experiment, fixed when it was declared, so that later edits do not make its runs different.

    Attributes:
        store: Location of the pair store when the experiment was declared, which is part of a run's key.
        version: Its version.
        name: Readable name.
        in_home: Path of the store within the home; "" for one elsewhere.
    """

    store: str
    version: int
    name: str
    in_home: str = ""

    @property
    def location(self) -> str:
        """Where the pair store is now: in a home that was copied or moved, the one in that home."""
        near = home.home() / self.in_home
        return str(near) if self.in_home and near.exists() else self.store


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment.

    Attributes:
        key: 16 hex digits, a hash of everything that the run is a function of.
        variant: Label of everything but the seed: "sgdpo r1=0.6, learning_rate=0.0002".
        seed: The seed.
        varied: The settings that differ between variants, by name; a run without such a parameter lacks it.
        config: All settings.
        pairs: The pair set.
    """

    key: str
    variant: str
    seed: int
    varied: Mapping[str, Any]
    config: TrainConfig
    pairs: PairSet


def plan(
    declaration: Declaration,
    pair_sets: Mapping[str, PairSet],
    *,
    template_time: str,
    models: Mapping[str, str] | None = None,
) -> list[PlannedRun]:
    """Return the runs of a declaration, in the order in which they are trained: all variants of a seed, then the next seed.

    Args:
        declaration: The declaration.
        pair_sets: The pair set of every value of the setting `pairs`.
        template_time: Date and time for chat templates, the same in every run.
        models: Digest of every model; see `model_digest`.

    Raises:
        ConfigError: For settings that are not possible, two variants that are identical, or labels that are.
    """
    cells = [cell for objective in declaration.objectives for cell in _cells(objective, declaration.settings)]
    configs: list[list[TrainConfig]] = []
    for cell in cells:
        fields = {"template_time": template_time, **cell.fields}
        own = [_at_seed(fields, declaration.with_seed, seed) for seed in declaration.seeds]
        configs.append([TrainConfig.parse(objective=cell.objective, **each) for each in own])
    if any(config.pairs_version == FOLLOW for own in configs for config in own):
        raise ConfigError("The runs of an experiment train on fixed pairs, so pairs_version cannot be follow; leave it out.")
    shown = [_shown(own[0], declaration.with_seed) for own in configs]
    varied = _varied(shown)
    labels = [cell.label or _label(each) for cell, each in zip(cells, varied)]
    if len(set(labels)) < len(labels):  # two folders of one name, or numbers that differ in the seventh digit
        labels = [label if labels.count(label) == 1 else cell.label or _label(each, whole=True)
                  for label, cell, each in zip(labels, cells, varied)]  # fmt: skip
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise ConfigError(
            f"Two variants are called {repeated[0]!r}: they are identical, or have the same label; leave one out, or give labels."
        )
    runs = [
        [_planned(label, values, config, pair_sets, models or {}) for config in own]
        for label, values, own in zip(labels, varied, configs)
    ]
    return [run for of_one_seed in zip(*runs) for run in of_one_seed]


def sources_of(declaration: Declaration, setting: str) -> list[str]:
    """Return every value of the setting `pairs` or `model` in a declaration."""
    given = [declaration.settings.get(setting, "world"), *(entry.get(setting, []) for entry in declaration.objectives)]
    given.append(list(declaration.with_seed.get(setting, [])))
    return list(dict.fromkeys(str(value) for each in given for value in (each if isinstance(each, list) else [each])))


def variants(runs: Sequence[PlannedRun]) -> list[str]:
    """Return the labels of the variants, in the order of the declaration."""
    return list(dict.fromkeys(run.variant for run in runs))


def find_variant(name: str, known: Sequence[str]) -> str:
    """Return a variant by its label, or by the only label that begins so. Raises ConfigError, with the nearest label."""
    matches = [label for label in known if label == name] or [label for label in known if label.startswith(name)]
    if len(matches) != 1:
        problem = f"{len(matches)} variants begin with" if matches else "There is no variant"
        raise ConfigError(f"{problem} {name!r}; give one of: {'; '.join(known)}.{did_you_mean(name, known)}")
    return matches[0]


def listed(value: Any) -> list[str]:
    """Return one value, or several, as a list of texts; None is the empty one."""
    return [] if value is None else list(dict.fromkeys(map(str, value if isinstance(value, (list, tuple)) else [value])))


@dataclass(frozen=True)
class _Cell:
    objective: dict[str, Any]
    fields: dict[str, Any]
    label: str


def _cells(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> list[_Cell]:
    """Return every combination of the values of one objective's parameters and settings."""
    kind = OBJECTIVES[entry["name"]]
    dimensions = {**settings, **{key: value for key, value in entry.items() if key not in ("name", "label")}}
    choices = [value if isinstance(value, list) else [value] for value in dimensions.values()]
    cells = []
    for values in itertools.product(*choices):
        chosen = dict(zip(dimensions, values))
        parameters = {name: value for name, value in chosen.items() if name in kind.model_fields}
        fields = {name: value for name, value in chosen.items() if name not in kind.model_fields}
        cells.append(_Cell({"name": entry["name"], **parameters}, fields, ""))
    label = str(entry.get("label", ""))
    if label and len(cells) > 1:
        different = [name for name, values in zip(dimensions, choices) if len(values) > 1]
        return [_Cell(cell.objective, cell.fields, _label({"objective": label, **_values_of(cell, different)})) for cell in cells]
    return [_Cell(cell.objective, cell.fields, label) for cell in cells]


def _values_of(cell: _Cell, names: Sequence[str]) -> dict[str, Any]:
    return {name: cell.objective.get(name, cell.fields.get(name)) for name in names}


def _at_seed(fields: Mapping[str, Any], with_seed: Mapping[str, Sequence[Any]], seed: int) -> dict[str, Any]:
    return {**fields, **{name: values[seed % len(values)] for name, values in with_seed.items()}, "seed": seed}


def _shown(config: TrainConfig, with_seed: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the settings of a variant that may differ from those of another, by name."""
    content = config.model_dump(mode="json")
    flat = dict(_flat("", content.pop("objective")))
    flat["objective"] = flat.pop("name")
    hidden = {"seed", "name", *with_seed}
    return flat | {name: value for name, value in content.items() if name not in hidden}


def _flat(path: str, spec: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return an objective's parameters by path; those of an objective inside it as "base.beta"."""
    items: list[tuple[str, Any]] = []
    for name, value in spec.items():
        if isinstance(value, Mapping):
            items.append((f"{path}{name}", value.get("name")))
            inner = {key: each for key, each in value.items() if key != "name"}
            items += _flat(f"{path}{name}.", inner)
        else:
            items.append((f"{path}{name}", value))
    return items


def _varied(shown: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return of each variant the objective, and what differs from another variant of the same objective or from all.

    A parameter that differs only because the objectives do is left out.
    """
    names = list(dict.fromkeys(name for each in shown for name in each))
    names.sort(key=lambda name: name in TrainConfig.model_fields)  # parameters first
    different = set()
    for name in names:
        by_objective: dict[str, set[str]] = {}
        for each in shown:
            if name in each:
                by_objective.setdefault(each["objective"], set()).add(json.dumps(each[name]))
        setting = name in TrainConfig.model_fields
        if any(len(values) > 1 for values in by_objective.values()) or (setting and len(set().union(*by_objective.values())) > 1):
            different.add(name)
    return [
        {"objective": each["objective"], **{name: each[name] for name in names if name in different and name in each}}
        for each in shown
    ]


def _label(values: Mapping[str, Any], *, whole: bool = False) -> str:
    details = ", ".join(f"{name}={value if whole else _text(value)}" for name, value in values.items() if name != "objective")
    return f"{values['objective']} {details}".strip()


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


def _planned(
    label: str, values: Mapping[str, Any], config: TrainConfig, pair_sets: Mapping[str, PairSet], models: Mapping[str, str]
) -> PlannedRun:
    pairs = pair_sets.get(config.pairs)
    if pairs is None:
        raise ConfigError(f"The version of the pairs {config.pairs} is not known; declare the experiment again.")
    content = {name: value for name, value in config.model_dump(mode="json").items() if name not in NOT_IN_KEY}
    content |= {"pairs": pairs.store, "version": pairs.version}
    if digest := models.get(config.model):
        content["model_digest"] = digest
    key = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
    return PlannedRun(key, label, config.seed, values, config, pairs)
