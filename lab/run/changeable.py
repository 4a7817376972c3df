"""Settings that may change while a run trains: the learning rate, and the objective's parameters marked changeable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lab.errors import did_you_mean
from lab.objectives import Objective

from .config import ConfigError, TrainConfig, one_sentence

LEARNING_RATE = "learning_rate"


def changed(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration with new values of `learning_rate` and of the objective's parameters.

    A new learning rate replaces the peak of the schedule; each step keeps its share of the peak.

    Args:
        config: The settings in use.
        settings: New values by path; a dot reaches into a nested objective: "beta", "base.beta".

    Raises:
        ConfigError: For a setting that does not exist, may not change during training, or has an invalid value.
    """
    if not settings:
        raise ConfigError("Say what to set, for example beta=0.2 or learning_rate=5e-5.")
    objective = config.objective
    for path, value in settings.items():
        if path != LEARNING_RATE:
            objective = _with_parameter(objective, path, value)
    if not same_needs(config.objective, objective):
        raise ConfigError(
            f"{', '.join(settings)} would change the inputs or the state of {objective.name}, which is not possible during "
            "training; branch from a checkpoint instead."
        )
    rate = settings.get(LEARNING_RATE, config.learning_rate)
    return TrainConfig.parse(**dict(config) | {"objective": objective, LEARNING_RATE: rate})


def changeable(config: TrainConfig) -> dict[str, tuple[FieldInfo, Any]]:
    """Return the declaration and the present value of every setting that `changed` accepts, by its path."""
    rate = (TrainConfig.model_fields[LEARNING_RATE], config.learning_rate)
    return {LEARNING_RATE: rate} | dict(_parameters(config.objective))


def values(config: TrainConfig, paths: Mapping[str, Any]) -> dict[str, Any]:
    """Return the present values of the settings at some paths, in their own types."""
    present = changeable(config)
    return {path: present[path][1] for path in paths}


def same_needs(before: Objective, after: Objective) -> bool:
    """Return whether one objective can replace another during training: equal inputs (degraded answers, reference) and state."""
    inputs = [spec and (spec.degrees, spec.source, spec.pooling) for spec in (before.degraded_spec(), after.degraded_spec())]
    return inputs[0] == inputs[1] and before.needs_reference == after.needs_reference and same_state(before, after)


def same_state(before: Objective, after: Objective) -> bool:
    """Return whether the state of one objective is valid for another."""
    return (
        _names(before) == _names(after)
        and before.needs_dataset == after.needs_dataset
        and before.initial_state().keys() == after.initial_state().keys()
    )


def _with_parameter(objective: Objective, path: str, value: Any) -> Objective:
    name, _, rest = path.partition(".")
    field = type(objective).model_fields.get(name)
    inner = getattr(objective, name, None)
    if field is None or (rest and not isinstance(inner, Objective)):
        known = sorted({LEARNING_RATE, *dict(_parameters(objective))})
        raise ConfigError(
            f"{objective.name} has no parameter {path!r}; these can be set during training: {', '.join(known)}."
            f"{did_you_mean(path, known)}"
        )
    if rest and isinstance(inner, Objective):
        value = _with_parameter(inner, rest, value)
    elif not _may_change(field):
        raise ConfigError(f"{name} of {objective.name} cannot change in mid-run; branch from a checkpoint instead.")
    try:
        return objective.replace(**{name: value})
    except ValidationError as error:
        raise ConfigError(one_sentence(error)) from None


def _parameters(objective: Objective, parents: str = "") -> Iterator[tuple[str, tuple[FieldInfo, Any]]]:
    present = {name: getattr(objective, name) for name in type(objective).model_fields}
    for name, field in type(objective).model_fields.items():
        if isinstance(present[name], Objective):
            yield from _parameters(present[name], f"{parents}{name}.")
        elif _may_change(field) and name not in objective.unused_parameters(present):
            yield f"{parents}{name}", (field, present[name])


def _may_change(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return not isinstance(extra, dict) or bool(extra.get("changeable", True))


def _names(objective: Objective) -> list[Any]:
    """The objective's name, and those of the objectives nested in it."""
    inner = [getattr(objective, name) for name in type(objective).model_fields]
    return [objective.name, *(_names(value) for value in inner if isinstance(value, Objective))]
