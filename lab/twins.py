"""Twin runs: the same start and the same batches in the same order under two objectives, so that all that differs is the objective.

What makes them twins is what a run is a function of: the model's weights (an adapter's first ones are drawn from the seed), the
pairs in one version, the seed and the batch size. Where they train they train one after the other unless told otherwise: on one
device two at once take as long as two in turn, need twice the memory, and neither's seconds say any more how fast its objective is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import api, home
from lab.api import Executor, Progress
from lab.objectives import Objective
from lab.pairs import PairStore
from lab.policy.text.chat_template import now
from lab.run.config import ConfigError, TrainConfig
from lab.run.handle import Run, open_run
from lab.store import RunError, write_twins
from lab.store.folder import RUN_FILE

PATIENCE = 60.0
"""Seconds that a run gets for joining its queue before the next one is started: a process of its own takes some to begin."""

NOT_SHARED = ("objective", "pairs", "model", "name")
"""Fields of a configuration that `begins_like` says in other words, or that a twin has of its own."""


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
    progress: Progress | None = None,
    listed: bool = True,
    **settings: Any,
) -> tuple[Run, ...]:
    """Start a run for each objective that differ in nothing else: same first weights, same pairs, same batches in the same order.

    objectives: two or more, each as `lab.train` takes it.   like: begin as this run began, with its settings, pairs and model,
    apart from the settings that are given here.   branch_from, at, keep_optimizer: every twin is a branch from that checkpoint.
    run_dirs: a folder for each.   queue: they train one after the other, in their order; False trains them at once.
    Everything else as in `lab.train`. The runs know each other (`run.twins`), also after a reload or a resume; `lab.compare`
    lays them side by side. Raises ConfigError, PairsError or RunError, each in one sentence, before anything is started.
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
    progress: Progress | None = None,
    listed: bool = True,
) -> Run:
    """Start a twin of a run that is there already: it begins as that one began, under another objective. Rest as in `lab.train`.

    What was changed in the other run while it trained (settings, edits of its pairs) does not happen again in the twin.
    """
    other = run if isinstance(run, Run) else open_run(run)
    known = [TrainConfig.parse(**each.manifest["config"]) for each in (other, *other.twins)]
    wanted = _configured([objective], {})
    _require_different([*known, *wanted])
    folder = api.make_run(
        wanted[0].objective,
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
    progress: Progress | None = None,
    listed: bool = True,
    **settings: Any,
) -> tuple[Path, ...]:
    """Make the folders of twins without starting them; arguments and errors are those of `train_twins`."""
    if len(objectives) < 2:
        raise ConfigError('Twins need two objectives, for example ("dpo", "sgdpo"); for one run use lab.train.')
    if like is not None and branch_from is not None:
        raise ConfigError("like and branch_from both say how the twins begin; give one of them.")
    if branch_from is None and (at is not None or not keep_optimizer):
        raise ConfigError("at and keep_optimizer belong to branches; give branch_from, the run to begin from.")
    name = settings.pop("name", "")
    begins: dict[str, Any] = {}
    if like is not None:
        begins = begins_like(like if isinstance(like, Run) else open_run(like))
    elif branch_from is not None:
        begins = {"branch_from": branch_from, "at": at, "keep_optimizer": keep_optimizer}
    begins |= {key: value for key, value in (("pairs", pairs), ("model", model)) if value is not None} | settings
    if pairs is not None or not begins.keys() & {"manifest", "branch_from"}:
        begins |= _one_version(begins.get("pairs", api.WORLD), progress)
    if not begins.keys() & {"template_time", "branch_from"}:
        begins["template_time"] = now().isoformat()
    wanted = _configured(objectives, settings)
    _require_different(wanted)
    if known_elsewhere:
        for config in wanted:
            api.require_known_elsewhere(config.objective)
    folders = _folders(wanted, run_dirs)
    for config, folder in zip(wanted, folders):
        called = {"name": f"{name}-{config.objective.name}"} if name else {}
        api.make_run(config.objective, run_dir=folder, listed=listed, progress=progress, **begins | called)
    write_twins(folders)
    return tuple(folders)


def start_in_order(
    folders: Sequence[Path],
    *,
    executor: Executor = "auto",
    queue: bool = True,
    background: bool = True,
    progress: Progress | None = None,
) -> tuple[Run, ...]:
    """Start the runs that were made in some folders; where they queue, each joins the queue before the next one is started."""
    runs = []
    for folder in folders:
        runs.append(api.start_run(folder, executor=executor, queue=queue, background=background, progress=progress))
        if queue and background:
            _await_place(runs[-1])
    return tuple(runs)


def begins_like(run: Run) -> dict[str, Any]:
    """Arguments of `lab.api.make_run`, without an objective, with which a run begins as `run` began: from the same checkpoint if
    it is a branch, else from the same model, with the same settings and the same version of the same pairs."""
    manifest = run.manifest
    if "branch" in manifest:
        told = manifest["branch"]
        return {"branch_from": run, "at": told["step"], "keep_optimizer": told["keep_optimizer"]}
    config = TrainConfig.parse(**manifest["config"]).made_at(manifest["created"]).model_dump(mode="json")
    settings = {name: value for name, value in config.items() if name not in NOT_SHARED}
    facts = {name: manifest[name] for name in ("pairs_store", "pairs_version", "pairs_name")}
    return {"pairs": PairStore(manifest["pairs_store"]), "model": manifest["config"]["model"], "manifest": facts, **settings}


def _one_version(pairs: Any, progress: Progress | None) -> dict[str, Any]:
    """The pairs, and their version of now: an edit between the making of two twins must not part them."""
    store = api.open_pairs(pairs, progress=progress)
    facts = {"pairs_store": str(store.path), "pairs_version": store.version, "pairs_name": store.name}
    return {"pairs": pairs if isinstance(pairs, (str, Path)) else store, "manifest": facts}


def _configured(objectives: Sequence[Any], settings: Mapping[str, Any]) -> list[TrainConfig]:
    """A configuration for each objective, so that what cannot work is refused before anything is made."""
    return [TrainConfig.parse(objective=objective, **settings) for objective in objectives]


def _require_different(configs: Sequence[TrainConfig]) -> None:
    """Raises ConfigError where two twins would be one and the same run."""
    seen: list[Objective] = []
    for config in configs:
        if config.objective in seen:
            raise ConfigError(
                f"Two twins with the same objective ({config.objective.name}) would be one run, number for number; "
                "give another objective, or another value of one of its parameters."
            )
        seen.append(config.objective)


def _folders(configs: Sequence[TrainConfig], given: Sequence[str | Path] | None) -> list[Path]:
    """A folder for each run; raises RunError where one is taken."""
    if given is not None and len(given) != len(configs):
        raise ConfigError(f"There are {len(configs)} objectives and {len(given)} run_dirs; give a folder for each.")
    folders: list[Path] = []
    for number, config in enumerate(configs):
        if given is not None:
            folder = Path(given[number])
        else:
            folder = home.new_run_dir(config.objective.name)
            if folder in folders:  # the same objective with other parameters
                folder = home.new_run_dir(f"{config.objective.name}-twin{number + 1}")
        if (folder / RUN_FILE).exists() or folder in folders:
            raise RunError(f"There is a run in {folder} already; give other run_dirs.")
        folders.append(folder)
    return folders


def _await_place(run: Run) -> None:
    """Wait until a run stands in its queue, so that nobody who is started later comes before it."""
    deadline = time.monotonic() + PATIENCE
    while run.state == "queued" and run.place is None and time.monotonic() < deadline:
        time.sleep(0.02)
