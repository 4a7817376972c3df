"""A run described by a form: its validation and warnings, and the same run as a command and as Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.state import pair_sets
from lab.api import Executor
from lab.objectives import Objective, make_objective
from lab.pairs import Pair, PairsError, is_store, read_pairs
from lab.pairs.importing import open_table
from lab.policy.loading import choose_device
from lab.policy.sources.converted import check_source
from lab.run.config import TrainConfig
from lab.training.data.held_out import split
from lab.training.setup.preflight import settings_findings
from lab.world import WorldSpec, is_world_name

LARGEST_FILE = 10_000_000
"""Largest file of pairs, in bytes, that is read to validate a form."""
OWN = ("objective", "pairs", "model")
SLOWEST_FOR_THE_WORLD = 1e-5
"""Learning rate below which the world's half million parameters hardly move in some hundred steps."""


@dataclass(frozen=True)
class Start:
    """Settings of a new run: `lab.train`'s arguments of these names."""

    executor: Executor = "auto"
    queue: bool = True


HERE = Start()
"""The defaults of `lab.train`."""


@dataclass(frozen=True)
class Verdict:
    """The result of validating a form.

    Attributes:
        config: The run's settings; None if they cannot work.
        refusal: Why they cannot work, in one sentence.
        warnings: Doubtful settings.
    """

    config: TrainConfig | None
    refusal: str = ""
    warnings: tuple[str, ...] = ()


def judge(spec: Mapping[str, Any], settings: Mapping[str, Any]) -> Verdict:
    """Validate an objective's specification and the other fields of `TrainConfig` with the library's own rules."""
    try:
        objective = build_objective(spec)
        config = TrainConfig.parse(objective=objective, **settings)
        _check_pairs(config.pairs)
        _check_model(config.model)
        if config.device != "auto":
            choose_device(config.device)
    except ValueError as error:
        return Verdict(None, " ".join(str(error).split()))
    return Verdict(config, warnings=tuple(_warnings(objective, config)))


def build_objective(spec: Mapping[str, Any]) -> Objective:
    """Build the objective of a specification, nested ones first. Raises ValueError about the innermost wrong value."""
    if "name" not in spec:
        raise ValueError(f"An objective needs a name, and {dict(spec)} has none.")
    given = {key: build_objective(value) if isinstance(value, Mapping) else value for key, value in spec.items() if key != "name"}
    return make_objective(str(spec["name"]), **given)


def _check_pairs(source: str) -> None:
    if not source.strip():
        raise PairsError("Give the pairs: a file's path, owner/name of a data set on the hub, or the address of a database.")
    if is_world_name(source):
        WorldSpec.named(source)  # raises for one that cannot be
        return
    if is_store(source):
        len(pair_sets.open_set(source))  # raises for a set that is not there, and for a database that is away
        return
    looks_like_hub = source.count("/") == 1 and not source.startswith((".", "/", "~")) and not Path(source).suffix
    if not looks_like_hub or _path(source).exists():
        open_table(source)  # raises for a wrong path; reads no rows


def _check_model(source: str) -> None:
    if not source.strip():
        raise ValueError("Give the model: a folder, a GGUF file, or owner/name of a causal language model on the hub.")
    _path(source)
    if is_world_name(source):
        WorldSpec.named(source)  # raises for one that cannot be
    else:
        check_source(source)


def _path(source: str) -> Path:
    """Return a source as a path. Raises ValueError if no file can have this name."""
    try:
        path = Path(source).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise ValueError(f"{source} cannot be the path of a file or folder ({reason}); check it.") from None
    return path


def _warnings(objective: Objective, config: TrainConfig) -> Iterator[str]:
    yield from objective.warnings()
    if objective.couples(training=True) and config.batch_size == 1:
        yield f"{objective.name} compares the pairs of a batch with each other, and with batch_size 1 there is nothing to compare."
    if config.learning_rate == 0:
        yield "learning_rate is 0, so no weight changes."
    elif is_world_name(config.model) and not config.lora_rank and config.learning_rate < SLOWEST_FOR_THE_WORLD:
        yield (
            f"learning_rate {config.learning_rate:g} suits models of billions of parameters; the embedded world's model "
            "will hardly move. Try 1e-4."
        )
    yield from (finding.message for finding in settings_findings(config, *count_pairs(config)))


def count_pairs(config: TrainConfig) -> tuple[int | None, int | None]:
    """Count the pairs to train on and the pairs that an evaluation computes.

    Both are None if the set has to be downloaded or built, or is too large to be read at every change of the form.
    """
    try:
        world = pair_sets.opened_world(config.pairs) if is_world_name(config.pairs) else None
        location = world.store.location if world else config.pairs
        if is_store(location):
            version = pair_sets.open_set(location).version
        elif (path := _path(location)).is_file() and path.stat().st_size <= LARGEST_FILE:
            version = path.stat().st_mtime_ns
        else:
            return None, None
        return _divided(location, version, config.held_out if config.evaluate else 0.0, config.seed, config.eval_pairs)
    except (OSError, ValueError):  # starting the run reports what is wrong with the set
        return None, None


@lru_cache(maxsize=64)
def _divided(location: str, version: int, held_out: float, seed: int, most: int) -> tuple[int, int]:
    pairs = _pairs(location, version)
    training, kept_apart = split(pairs, held_out, seed) if held_out else (pairs, [])
    return len(training), min(len(kept_apart), most)


@lru_cache(maxsize=2)
def _pairs(location: str, version: int) -> Sequence[Pair]:
    return pair_sets.open_set(location).all(version) if is_store(location) else read_pairs(_path(location))


def changed(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that differ from the defaults, without the objective, as plain values."""
    content = config.model_dump(mode="json", exclude={"objective"})
    return {name: value for name, value in content.items() if value != TrainConfig.model_fields[name].default}


def changed_parameters(objective: Objective) -> dict[str, Any]:
    """Return the parameters that differ from the defaults as plain values; a nested objective as name and changed parameters."""
    changes: dict[str, Any] = {}
    for key, value in objective.spec().items():
        if key == "name":
            continue
        default = type(objective).model_fields[key].default
        inner = getattr(objective, key)
        if isinstance(inner, Objective):
            if inner.name != default or changed_parameters(inner):
                changes[key] = {"name": inner.name, **changed_parameters(inner)}
        elif value != default:
            changes[key] = value
    return changes


def as_command(config: TrainConfig, start: Start = HERE) -> str:
    """Return the command that starts the same run."""
    command = ["python", "-m", "lab", "train", "--objective", config.objective.name]
    for assignment in _assignments(changed_parameters(config.objective)):
        command += ["--set", assignment]
    for name, value in changed(config).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    command += ["--detach"] if start.executor == "process" else []
    command += [] if start.queue else ["--no-queue"]
    return shlex.join(command)


def _assignments(parameters: Mapping[str, Any], parents: str = "") -> Iterator[str]:
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            yield f"{parents}{key}={value['name']}"
            yield from _assignments({k: v for k, v in value.items() if k != "name"}, f"{parents}{key}.")
        else:
            yield f"{parents}{key}={value if isinstance(value, str) else json.dumps(value)}"


def as_python(config: TrainConfig, start: Start = HERE) -> str:
    """Return Python code that starts the same run."""
    parameters = changed_parameters(config.objective)
    objective = {"name": config.objective.name, **parameters} if parameters else config.objective.name
    started = {name: value for name, value in asdict(start).items() if value != getattr(HERE, name)}
    given = {"objective": objective, **changed(config), **started}
    return "import lab\n\nrun = lab.train(\n" + "".join(f"    {key}={value!r},\n" for key, value in given.items()) + ")"
