"""Settings that may change while a run trains: the learning rate, and the parameters of its objective that are changeable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lab.objectives import Objective

from .config import ConfigError, TrainConfig, one_sentence

LEARNING_RATE = "learning_rate"


def changed(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """The configuration with other values of `learning_rate` and of the objective's parameters by their path ("beta", "base.beta").

    A new learning rate replaces the peak of the schedule: the share of the peak that a step gets stays what it was.
    Raises ConfigError, in one sentence, for a setting that is not there, may not change in mid-run, or has a value that cannot be.
    """
    if not settings:
        raise ConfigError("Say what to set, for example beta=0.2 or learning_rate=5e-5.")
    objective = config.objective
    for path, value in settings.items():
        if path != LEARNING_RATE:
            objective = _with_parameter(objective, path, value)
    if not same_needs(config.objective, objective):
        raise ConfigError(
            f"{', '.join(settings)} would change what {objective.name} has to be given, or what it remembers, which no run can "
            "do halfway; branch from a checkpoint instead."
        )
    rate = settings.get(LEARNING_RATE, config.learning_rate)
    return TrainConfig.parse(**dict(config) | {"objective": objective, LEARNING_RATE: rate})


def changeable(config: TrainConfig) -> dict[str, tuple[FieldInfo, Any]]:
    """What `changed` accepts: the declaration and the present value of every setting, by its path."""
    rate = (TrainConfig.model_fields[LEARNING_RATE], config.learning_rate)
    return {LEARNING_RATE: rate} | dict(_parameters(config.objective))


def values(config: TrainConfig, paths: Mapping[str, Any]) -> dict[str, Any]:
    """The present values of some settings, by their path; what was text on its way here has its own type."""
    present = changeable(config)
    return {path: present[path][1] for path in paths}


def same_needs(before: Objective, after: Objective) -> bool:
    """Whether one objective can go on where another stands: it reads the same from batch and reference and remembers the same."""
    one, other = before.degraded_spec(), after.degraded_spec()
    answers = [
        degraded_spec and (degraded_spec.degrees, degraded_spec.source, degraded_spec.pooling) for degraded_spec in (one, other)
    ]
    return answers[0] == answers[1] and before.needs_reference == after.needs_reference and same_state(before, after)


def same_state(before: Objective, after: Objective) -> bool:
    """Whether what one objective remembers means the same to the other."""
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
        there = ", ".join(sorted({LEARNING_RATE, *dict(_parameters(objective))}))
        raise ConfigError(f"{objective.name} has no parameter {path!r}; what can be set in mid-run is {there}.")
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
    """The objective's name, and those of the ones inside it."""
    inner = [getattr(objective, name) for name in type(objective).model_fields]
    return [objective.name, *(_names(value) for value in inner if isinstance(value, Objective))]
