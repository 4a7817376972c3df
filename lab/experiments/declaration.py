"""The declaration of an experiment: objectives, seeds and settings, any of which may have several values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import did_you_mean
from lab.objectives import OBJECTIVES, Objective, make_objective
from lab.run.config import SEEDS, ConfigError, TrainConfig
from lab.run.yaml_text import YamlError, read_yaml

SETTINGS = tuple(name for name in TrainConfig.model_fields if name not in ("objective", "seed", "name"))
"""Settings that an experiment may fix or vary."""
ONE_VALUE = ("device", "template_time", "alerts", "alert_webhook", "alert_hosts", "trackers")
"""Settings that must have one value, because they do not change what is learned."""
COMPARISON_KEYS = ("metrics", "at", "baseline", "smallest")
MOST_SEEDS = 10_000
"""Most seeds; a larger number is one seed that was meant, or a slip."""
FILE_KEYS = ("name", "objectives", "seeds", "with_seed", "compare", *SETTINGS)


@dataclass(frozen=True)
class Declaration:
    """Everything that an experiment runs: every objective with every combination of the settings, each with every seed.

    Attributes:
        objectives: Each with `name`, its parameters, settings for this objective alone, and perhaps a `label`. A value that is a
            list is a dimension of the grid.
        seeds: The seeds; a difference between two variants is paired by seed.
        settings: Fields of `TrainConfig`; a value that is a list is a dimension of the grid.
        with_seed: Settings that go with the seed instead of being crossed with it, such as base models of different seeds: seed s
            takes value number s, beginning anew after the last one.
        compare: Which comparisons belong to the experiment: `metrics`, `at`, `baseline` and `smallest`, as for
            `Experiment.compare`.
    """

    objectives: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    with_seed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    compare: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the declaration as JSON values, which `declare` accepts again."""
        return {
            "objectives": [dict(objective) for objective in self.objectives],
            "seeds": list(self.seeds),
            "settings": dict(self.settings),
            "with_seed": {name: list(values) for name, values in self.with_seed.items()},
            "compare": dict(self.compare),
        }


def declare(
    objectives: Any,
    seeds: Any,
    settings: Mapping[str, Any] | None = None,
    with_seed: Mapping[str, Any] | None = None,
    compare: Mapping[str, Any] | None = None,
) -> Declaration:
    """Check the parts of an experiment and return its declaration.

    Args:
        objectives: One or several of: a name, {"name": ..., parameters and settings}, or an Objective.
        seeds: Their number (8 is seeds 0 to 7), or the seeds themselves.
        settings: Fields of `TrainConfig`, and parameters, which every objective takes that has them.
        with_seed: See `Declaration`.
        compare: See `Declaration`.

    Raises:
        ConfigError: For an unknown name, with the nearest known one, or a value that cannot be used.
    """
    given = [objectives] if isinstance(objectives, (str, Mapping, Objective)) else objectives
    if not isinstance(given, Sequence) or not given:
        raise ConfigError('Give the objectives of the experiment, for example objectives=["dpo", "sgdpo"].')
    entries = [_objective(entry) for entry in given]
    shared = dict(settings or {})
    kinds = [OBJECTIVES[entry["name"]] for entry in entries]
    for name in [name for name in shared if name not in SETTINGS]:
        owners = [at for at, kind in enumerate(kinds) if name in kind.model_fields]
        if not owners:
            raise ConfigError(_unknown_setting(name, [kind.name for kind in kinds]))
        for at in owners:
            entries[at] = {name: shared[name], **entries[at]}
        del shared[name]
    return Declaration(
        tuple({"name": entry["name"], **entry} for entry in entries),
        _seeds(seeds),
        {name: _values(name, value) for name, value in shared.items()},
        _with_seed({} if with_seed is None else with_seed, [shared, *entries]),
        _comparison({} if compare is None else compare),
    )


def read_declaration(path: Path) -> tuple[str, Declaration]:
    """Read an experiment's name and declaration from a YAML or JSON file; the name is that of the file if it has none.

    Raises:
        ConfigError: If the file cannot be read or used; the sentence names the file, the key and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The experiment {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"The experiment {path} is not valid YAML: {error}.") from None
    return parse_declaration(text, path.stem, str(path))


def parse_declaration(text: str, name: str, source: str) -> tuple[str, Declaration]:
    """Return an experiment's name and declaration from the content of a YAML or JSON file.

    Args:
        text: The content.
        name: The name, if the content has none.
        source: Name of the file in messages.

    Raises:
        ConfigError: As `read_declaration`.
    """
    try:
        content = read_yaml(text)
    except YamlError as error:
        raise ConfigError(f"The experiment {source} is not valid YAML: {error}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"The experiment {source} must hold keys such as `objectives: [dpo, sgdpo]` and `seeds: 8`.")
    for key in ("objectives", "seeds"):
        if key not in content and (wrong := next((other for other in content if str(other) == key.removesuffix("s")), None)):
            raise ConfigError(f"The experiment {source} has {wrong!r}; call it {key!r}, since it may have several values.")
    kinds = _kinds_of(content.get("objectives"))
    for key in content:
        if key not in FILE_KEYS and not any(key in OBJECTIVES[kind].model_fields for kind in kinds):
            raise ConfigError(f"The experiment {source} has {key!r}: {_unknown_setting(key, kinds)}")
    missing = [key for key in ("objectives", "seeds") if key not in content]
    if missing:
        example = {"objectives": "objectives: [dpo, sgdpo]", "seeds": "seeds: 8"}[missing[0]]
        raise ConfigError(f"The experiment {source} has no {missing[0]!r}; add a line such as `{example}`.")
    rest = {key: value for key, value in content.items() if key not in ("name", "objectives", "seeds", "with_seed", "compare")}
    try:
        own = content.get("name")
        known = checked_name(name if own is None else own)
        declared = declare(content["objectives"], content["seeds"], rest, content.get("with_seed"), content.get("compare"))
    except ConfigError as error:
        raise ConfigError(f"The experiment {source}: {error}") from None
    return known, declared


def check_value(name: str, value: Any, objective: str | None = None) -> None:
    """Check one value of a setting, or of a parameter of an objective, by itself.

    Args:
        name: Name of the setting or parameter.
        value: The value.
        objective: The objective whose parameter it may be.

    Raises:
        ConfigError: For an unknown name or a value that is not possible; one sentence.
    """
    if objective is not None and name in OBJECTIVES[objective].model_fields:
        try:
            make_objective(objective, **{name: value})
        except ValueError as error:
            raise ConfigError(" ".join(str(error).split())) from None
    elif name in SETTINGS:
        TrainConfig.parse(objective="dpo", **{name: value})
    else:
        raise ConfigError(_unknown_setting(name, [objective] if objective else []))


def extended(
    declaration: Declaration, *, objectives: Any = (), seeds: Any = None, settings: Mapping[str, Any] | None = None
) -> Declaration:
    """Return a declaration with more objectives, seeds or values; nothing that it has is lost.

    Args:
        declaration: The present declaration.
        objectives: Further objectives, as for `declare`.
        seeds: Further seeds, or a larger number of them.
        settings: Further values of settings: {"learning_rate": 3e-4} adds one to those that it has.

    Raises:
        ConfigError: As `declare`.
    """
    content = declaration.as_json()
    given = [objectives] if isinstance(objectives, (str, Mapping, Objective)) else list(objectives)
    more = [entry for entry in map(_objective, given) if entry not in content["objectives"]]
    known = dict(content["settings"])
    for name, value in (settings or {}).items():
        if name not in SETTINGS:
            raise ConfigError(_unknown_setting(name, []))
        before = known.get(name, TrainConfig.model_fields[name].default)
        values = [*(before if isinstance(before, list) else [before])]
        values += [each for each in (value if isinstance(value, (list, tuple)) else [value]) if each not in values]
        known[name] = values[0] if len(values) == 1 else values
    seeds = list(declaration.seeds) if seeds is None else list(dict.fromkeys([*declaration.seeds, *_seeds(seeds)]))
    return declare([*content["objectives"], *more], seeds, known, content["with_seed"], content["compare"])


def checked_name(name: Any) -> str:
    """Return the name of an experiment, which is also that of its folder. Raises ConfigError if it cannot be one."""
    text = str(name).strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", text):
        raise ConfigError(f"{name!r} is no name for an experiment; use letters, digits, '.', '-' and '_', at most 100 of them.")
    return text


def _objective(entry: Any) -> dict[str, Any]:
    if isinstance(entry, Objective):
        return dict(entry.spec())
    content = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(content, Mapping) or "name" not in content:
        raise ConfigError(f'{entry!r} is no objective; give a name, or {{"name": ..., "beta": ...}} with its parameters.')
    name = str(content["name"])
    if name not in OBJECTIVES:
        raise ConfigError(f"There is no objective {name!r}; choose one of {', '.join(sorted(OBJECTIVES))}."
                          f"{did_you_mean(name, OBJECTIVES)}")  # fmt: skip
    own = ("name", "label", *OBJECTIVES[name].model_fields)
    for key in content:
        if key not in own and key not in SETTINGS:
            raise ConfigError(_unknown_setting(key, [name]))
    return {key: _label(value) if key == "label" else value if key == "name" else _values(key, value)
            for key, value in content.items() if key != "label" or value is not None}  # fmt: skip


def _label(value: Any) -> str:
    """Return a label on one line. Raises ConfigError for a value that is no text or number."""
    text = " ".join(str(value).split())
    if isinstance(value, bool):
        raise ConfigError(f"label = {value} does not work: YAML reads yes, no, on and off as truth values; write it in quotes.")
    if not isinstance(value, (str, int, float)) or not text:
        raise ConfigError(f"label = {value!r} does not work: give a text of at least one character, or leave it out.")
    return text


def _kinds_of(objectives: Any) -> list[str]:
    """Return the names of known objectives in a file's list, for messages about its other keys."""
    entries = objectives if isinstance(objectives, list) else [objectives]
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    return [name for name in names if isinstance(name, str) and name in OBJECTIVES]


def _values(name: str, value: Any) -> Any:
    """Return a value, or a list of several; a list of one is that value."""
    if not isinstance(value, (list, tuple)):
        return _plain(value)
    if not value:
        raise ConfigError(f"{name} has an empty list of values; give at least one value, or leave {name} out.")
    if name in ONE_VALUE and len(value) > 1:
        raise ConfigError(f"{name} has {len(value)} values, but does not change what is learned; give one.")
    return _plain(value[0]) if len(value) == 1 else [_plain(each) for each in value]


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    return value.spec() if isinstance(value, Objective) else str(value) if isinstance(value, Path) else value


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds < 1:
            raise ConfigError(f"seeds = {seeds} does not work: give their number, at least 1, or a list of seeds.")
        if seeds > MOST_SEEDS:
            raise ConfigError(
                f"seeds = {seeds} would be so many runs of each variant; give at most {MOST_SEEDS:,}. One seed is [{seeds}]."
            )
        return tuple(range(seeds))
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not seeds:
        raise ConfigError(f"seeds = {seeds!r} does not work: give their number, such as 8, or a list such as [0, 1, 2].")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < SEEDS:
            raise ConfigError(f"{seed!r} in seeds is no seed; give whole numbers from 0 to {SEEDS - 1:,}.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds = {list(seeds)!r} has a seed twice; runs with the same seed are identical, so name each once.")
    return tuple(seeds)


def _with_seed(given: Any, others: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the settings that go with the seed. others: the settings of all objectives, and of each."""
    if not isinstance(given, Mapping):
        raise ConfigError("with_seed must name settings with a list of values each, such as with_seed: {model: [a, b]}.")
    for name, values in given.items():
        if name not in SETTINGS:
            raise ConfigError(f"with_seed has {name!r}: {_unknown_setting(name, [])}")
        if not isinstance(values, (list, tuple)) or not values:
            raise ConfigError(f"with_seed: {name} needs a list of values, one for each seed in turn.")
        if any(name in settings for settings in others):
            raise ConfigError(f"{name} is given twice, as a setting and in with_seed; keep one of them.")
    return {name: [_plain(value) for value in values] for name, values in given.items()}


def _comparison(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError("compare must hold keys such as `metrics: [eval/oracle_reward]` and `at: [end, kl]`.")
    for key in given:
        if key not in COMPARISON_KEYS:
            raise ConfigError(
                f"compare has {key!r}, which it does not know; it takes {', '.join(COMPARISON_KEYS)}."
                f"{did_you_mean(key, COMPARISON_KEYS)}"
            )
    return dict(given)


def _unknown_setting(name: Any, kinds: Sequence[str]) -> str:
    """Return a sentence about a name that is neither a setting nor a parameter, with the nearest known one."""
    own = {kind: list(OBJECTIVES[kind].model_fields) for kind in dict.fromkeys(kinds)}
    of = "".join(f", and no parameter of {kind} (it has {', '.join(fields)})" for kind, fields in own.items())
    known = [*FILE_KEYS, *(field for fields in own.values() for field in fields)]
    return f"{name!r} is no setting{of}; `python -m lab train --help` lists the settings.{did_you_mean(name, known)}"
