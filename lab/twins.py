"""Twin runs: equal initial weights and equal batches in equal order, so that they differ in the objective alone.

Twins share everything a run is a function of: the weights (an adapter's are drawn from the seed), one version of the pairs, the
seed and the batch size. By default they train one after the other: two at once on one device take as long, need twice the memory,
and distort each other's timing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import api, home
from lab.objectives import Objective
from lab.opening import open_configured
from lab.pairs import PairStore
from lab.policy.text.template_time import now
from lab.progress import StageProgress
from lab.run.config import ConfigError, TrainConfig, with_parameters_of_one
from lab.run.handle import Run, open_run
from lab.run.pair_versions import CURRENT, FOLLOW
from lab.store import RunError, write_twins
from lab.store.folder import RUN_FILE
from lab.training.setup.executor_choice import Executor

PATIENCE = 60.0
"""Seconds to wait for a run to join its queue before the next one is started; a new process takes several."""

NOT_SHARED = ("objective", "pairs", "model", "name")
"""Settings that twins do not share, or that `begins_like` returns under another name."""


def train_twins(
    objectives: Sequence[Any] = ("dpo", "sgdpo"),
    pairs: Any = None,
    model: str | Path | None = None,
    *,
    like: Run | str | Path | None = None,
    branch_from: Run | str | Path | None = None,
    at: int | None = None,
    keep_optimizer: bool = True,
    run_dirs: Sequence[str | Path] | None = None,
    executor: Executor = "auto",
    queue: bool = True,
    background: bool = True,
    progress: StageProgress | None = None,
    listed: bool = True,
    **settings: Any,
) -> tuple[Run, ...]:
    """Start one run per objective; they have equal initial weights, pairs, and batches in equal order.

    lab.train_twins(("dpo", "sgdpo"), r1=0.7, steps=200)

    Arguments and errors are those of `lab.train`, with these differences: `objectives` are two or more; `like` is a run whose
    settings, pairs and model are used where none are given; with `branch_from` every twin branches from that checkpoint;
    `run_dirs` is a folder for each; `queue` trains one after the other, in their order; a parameter can be a keyword where only one
    of the objectives has it (r1 above, not beta), else it belongs into the objective: {"name": "dpo", "beta": 0.2}. Nothing is
    started if one of the runs is not possible. `Run.twins` lists the others, and `lab.compare` compares them.
    """
    folders = make_twins(
        objectives,
        pairs,
        model,
        like=like,
        branch_from=branch_from,
        at=at,
        keep_optimizer=keep_optimizer,
        run_dirs=run_dirs,
        listed=listed,
        known_elsewhere=executor == "process",
        progress=progress,
        **settings,
    )
    return start_in_order(folders, executor=executor, queue=queue, background=background, progress=progress)


def train_twin(
    run: Run | str | Path,
    objective: Any,
    *,
    run_dir: str | Path | None = None,
    executor: Executor = "auto",
    queue: bool = True,
    background: bool = True,
    progress: StageProgress | None = None,
    listed: bool = True,
) -> Run:
    """Start a twin of an existing run: it begins as that run began, with another objective.

    Settings and pairs that were changed in the other run during training are not changed in the twin. `run` is a run, its folder
    or its name; other arguments and errors are those of `lab.train`.
    """
    other = run if isinstance(run, Run) else open_run(run)
    known = [TrainConfig.parse(**each.manifest["config"]) for each in (other, *other.twins)]
    configs = _configured([objective], {})
    _require_different([*known, *configs])
    folder = api.make_run(
        configs[0].objective,
        run_dir=run_dir,
        listed=listed,
        known_elsewhere=executor == "process",
        progress=progress,
        **begins_like(other),
    )
    write_twins([other.dir, folder])
    return start_in_order([folder], executor=executor, queue=queue, background=background, progress=progress)[0]


def make_twins(
    objectives: Sequence[Any],
    pairs: Any = None,
    model: str | Path | None = None,
    *,
    like: Run | str | Path | None = None,
    branch_from: Run | str | Path | None = None,
    at: int | None = None,
    keep_optimizer: bool = True,
    run_dirs: Sequence[str | Path] | None = None,
    known_elsewhere: bool = False,
    progress: StageProgress | None = None,
    listed: bool = True,
    **settings: Any,
) -> tuple[Path, ...]:
    """Make the folders of twins without starting them. Arguments and errors are those of `train_twins`."""
    if len(objectives) < 2:
        raise ConfigError('Twins need two objectives, for example ("dpo", "sgdpo"); for one run use lab.train.')
    if like is not None and branch_from is not None:
        raise ConfigError("like and branch_from both say how the twins begin; give one of them.")
    if branch_from is None and (at is not None or not keep_optimizer):
        raise ConfigError("at and keep_optimizer belong to branches; give branch_from, the run to begin from.")
    objectives, settings = with_parameters_of_one(objectives, settings)
    name = settings.pop("name", "")
    begins: dict[str, Any] = {}
    if like is not None:
        begins = begins_like(like if isinstance(like, Run) else open_run(like))
    elif branch_from is not None:
        begins = {"branch_from": branch_from, "at": at, "keep_optimizer": keep_optimizer}
    begins |= {key: value for key, value in (("pairs", pairs), ("model", model)) if value is not None} | settings
    if pairs is not None or not begins.keys() & {"manifest", "branch_from"}:
        begins |= _one_version(begins.get("pairs", api.WORLD), _configured(objectives[:1], settings)[0], progress)
    if not begins.keys() & {"template_time", "branch_from"}:
        begins["template_time"] = now().isoformat()
    configs = _configured(objectives, settings)
    if any(config.pairs_version == FOLLOW for config in configs):
        raise ConfigError("Twins train on equal batches, so they cannot follow the edits of their pairs; leave pairs_version out.")
    _require_different(configs)
    if known_elsewhere:
        for config in configs:
            api.require_known_elsewhere(config.objective)
    folders = _folders(configs, run_dirs)
    for config, folder in zip(configs, folders):
        named = {"name": f"{name}-{config.objective.name}"} if name else {}
        api.make_run(config.objective, run_dir=folder, listed=listed, progress=progress, **begins | named)
    write_twins(folders)
    return tuple(folders)


def start_in_order(
    folders: Sequence[Path],
    *,
    executor: Executor = "auto",
    queue: bool = True,
    background: bool = True,
    progress: StageProgress | None = None,
) -> tuple[Run, ...]:
    """Start the runs in some folders. With `queue`, each has joined the queue before the next one is started."""
    runs = []
    for folder in folders:
        runs.append(api.start_run(folder, executor=executor, queue=queue, background=background, progress=progress))
        if queue and background:
            _await_place(runs[-1])
    return tuple(runs)


def begins_like(run: Run) -> dict[str, Any]:
    """Return arguments of `lab.api.make_run`, without an objective, for a run that begins as `run` began.

    For a branch, that is its first checkpoint; else the model, the settings and the version of the pairs.
    """
    manifest = run.manifest
    if "branch" in manifest:
        branch = manifest["branch"]
        return {"branch_from": run, "at": branch["step"], "keep_optimizer": branch["keep_optimizer"]}
    config = TrainConfig.parse(**manifest["config"]).made_at(manifest["created"]).model_dump(mode="json")
    settings = {name: value for name, value in config.items() if name not in NOT_SHARED}
    if settings["pairs_version"] == FOLLOW:  # the twin would take edits at other steps
        settings["pairs_version"] = CURRENT
    stored = {name: manifest[name] for name in ("pairs_store", "pairs_version", "pairs_name")}
    return {"pairs": PairStore(manifest["pairs_store"]), "model": manifest["config"]["model"], "manifest": stored, **settings}


def _one_version(pairs: Any, config: TrainConfig, progress: StageProgress | None) -> dict[str, Any]:
    """The pairs with their present version, so that an edit while the twins are made does not make them different."""
    store = open_configured(pairs, config, progress=progress)
    stored = {"pairs_store": store.location, "pairs_version": store.version, "pairs_name": store.name}
    return {"pairs": pairs if isinstance(pairs, (str, Path)) else store, "manifest": stored}


def _configured(objectives: Sequence[Any], settings: Mapping[str, Any]) -> list[TrainConfig]:
    """A configuration for each objective, validated before a folder is made."""
    return [TrainConfig.parse(objective=objective, **settings) for objective in objectives]


def _require_different(configs: Sequence[TrainConfig]) -> None:
    """Raise ConfigError if two twins would be identical."""
    seen: list[Objective] = []
    for config in configs:
        if config.objective in seen:
            raise ConfigError(
                f"Two twins with the same objective ({config.objective.name}) would be identical runs; "
                "give another objective, or another value of one of its parameters."
            )
        seen.append(config.objective)


def _folders(configs: Sequence[TrainConfig], given: Sequence[str | Path] | None) -> list[Path]:
    """A folder for each run. Raises RunError if one of them holds a run."""
    if given is not None and len(given) != len(configs):
        raise ConfigError(f"There are {len(configs)} objectives and {len(given)} run_dirs; give a folder for each.")
    folders: list[Path] = []
    for number, config in enumerate(configs):
        if given is not None:
            folder = home.full_path(given[number])
        else:
            folder = home.new_run_dir(config.objective.name)
            if folder in folders:  # the same objective with other parameters
                folder = home.new_run_dir(f"{config.objective.name}-twin{number + 1}")
        if (folder / RUN_FILE).exists() or folder in folders:
            raise RunError(f"There is a run in {folder} already; give other run_dirs.")
        folders.append(folder)
    return folders


def _await_place(run: Run) -> None:
    """Wait until a run has joined its queue, so that runs started later come after it."""
    deadline = time.monotonic() + PATIENCE
    while run.state == "queued" and run.place is None and time.monotonic() < deadline:
        time.sleep(0.02)
