"""Start, continue and extend experiments: the runs of a declared grid, each in its own process."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import extensions, home
from lab.experiments import (
    Content,
    Declaration,
    Driver,
    Experiment,
    ExperimentFolder,
    ExperimentState,
    PairSet,
    PlannedRun,
    RunExecutor,
    check_comparison,
    check_recorded,
    declare,
    experiment_folder,
    extended,
    find_experiment,
    plan,
    read_declaration,
    sources_of,
    variants,
)
from lab.experiments.experiment import cores
from lab.experiments.folder import LOG, now
from lab.experiments.model_digest import model_digest
from lab.opening import open_configured
from lab.pairs import PairStore
from lab.policy.text.template_time import now as template_now
from lab.progress import StageProgress
from lab.run import DeviceQueue, RunLock, is_held, take
from lab.run.config import ConfigError, TrainConfig
from lab.run.pair_versions import version_to_begin_with
from lab.starting import check_configured_model, check_world, model_place, require_known_elsewhere
from lab.store import RunError
from lab.store.durable import disk_errors_as_run_errors
from lab.sweep_processes import ProcessExecutor, queue_name, trains_on_one_thread
from lab.training.setup.requirements import check_requirements
from lab.world import WorldSpec, content_hash, is_world_name, model_source, world_of

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds to wait for the process that starts the runs."""


@disk_errors_as_run_errors()
def sweep(
    objectives: Any = None,
    pairs: Any = None,
    model: Any = None,
    *,
    name: str | None = None,
    seeds: Any = None,
    with_seed: Mapping[str, Any] | None = None,
    compare: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
    extend: str | Experiment | None = None,
    workers: int | None = None,
    keep_checkpoints: bool | None = None,
    retry: bool = False,
    background: bool = True,
    progress: StageProgress | None = None,
    **settings: Any,
) -> Experiment:
    """Run an experiment: every objective with every combination of settings and every seed; return a handle to it.

        lab.sweep(["dpo", {"name": "sgdpo", "r1": [0.6, 0.9]}], learning_rate=[1e-4, 2e-4], seeds=8, steps=200, name="rates")

    Any setting and any parameter of an objective may be a list: each value is run with each of the others. An entry of
    `objectives` may also hold settings, for this objective alone: {"name": "sgdpo", "learning_rate": [2e-4, 4e-4]}. Runs that were
    done under the same name with equal settings are not repeated, interrupted ones are continued, and failed ones do not stop the
    others. Pairs keep the version that they have when the experiment is declared first.

    Args:
        objectives: One or several of: a name, {"name": ..., parameters and settings}, an Objective.
        pairs: Anything that `lab.open_pairs` accepts, or a list of such sources to compare; None for the embedded world's.
        model: "world" (the default), another embedded world ("world:3" has seed 3), a folder or a hub id, or a list of these.
        name: Name of the experiment; None makes one. With the name of an existing experiment, this declaration replaces its own.
        seeds: The number of seeds or a list of them; None for 5.
        with_seed: Settings that go with the seed, {"model": [a, b, c]}: seed s takes value number s, beginning anew after the last.
        compare: Comparisons that belong to the experiment; see `Experiment.compare`.
        file: A YAML file with all of this, instead of the arguments above.
        extend: An existing experiment: objectives, seeds and values of settings are added to it; with nothing else it is continued.
        workers: Runs that train at once; None for one per core with a small model on CPUs, else one.
        keep_checkpoints: Whether to keep the checkpoints of finished runs; None for True.
        retry: Begin failed runs again.
        background: Return at once, while a process of its own starts the runs; False returns when all runs have ended.
        progress: Called as progress(stage, share) while an embedded world is built, the first time.
        settings: Fields of `TrainConfig`, and parameters, which every objective takes that has them.

    Raises:
        ConfigError: For settings that are not possible, before anything is started.
        PairsError: If the pairs cannot be read.
        RunError: If the experiment's folder cannot be used.
    """
    folder, declaration = declared(
        objectives, pairs, model, name=name, seeds=seeds, with_seed=with_seed, compare=compare, file=file, extend=extend, **settings
    )
    store_declaration(folder, declaration, workers=workers, keep_checkpoints=keep_checkpoints, progress=progress)
    if background:
        start_driver(folder, retry=retry)
        return Experiment(folder)
    try:
        drive(folder, retry=retry)
    except KeyboardInterrupt:
        log.warning("The runs in training go on; lab.sweep(extend=%r) takes them over and starts the others.", folder.name)
        raise
    return Experiment(folder)


def declared(
    objectives: Any = None,
    pairs: Any = None,
    model: Any = None,
    *,
    name: str | None = None,
    seeds: Any = None,
    with_seed: Mapping[str, Any] | None = None,
    compare: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
    extend: str | Experiment | None = None,
    **settings: Any,
) -> tuple[ExperimentFolder, Declaration]:
    """Return the folder and the declaration that the arguments of `sweep` mean, without writing anything."""
    extensions.load()
    given = {"objectives": objectives, "pairs": pairs, "model": model, "seeds": seeds, "with_seed": with_seed, "compare": compare}
    settings |= {key: value for key, value in (("pairs", _sources(pairs)), ("model", _models(model))) if value is not None}
    if file is not None:
        wrong = [key for key, value in given.items() if value is not None] + [key for key in settings if key not in given]
        if wrong or extend is not None:
            raise ConfigError(f"file holds the whole experiment; leave {', '.join(wrong) or 'extend'} out, or leave file out.")
        own, declaration = read_declaration(Path(file))
        return experiment_folder(name or own), _with_full_paths(declaration)
    if extend is not None:
        if with_seed is not None or compare is not None or name is not None:
            raise ConfigError("extend adds objectives, seeds and values of settings; leave name, with_seed and compare out.")
        folder = find_experiment(extend.name if isinstance(extend, Experiment) else extend)
        before = folder.read().declaration
        return folder, extended(before, objectives=objectives or (), seeds=seeds, settings=settings)
    folder = experiment_folder(name or f"sweep-{datetime.now():%Y%m%d-%H%M%S}")
    return folder, _with_full_paths(declare(objectives, 5 if seeds is None else seeds, settings, with_seed, compare))


def store_declaration(
    folder: ExperimentFolder,
    declaration: Declaration,
    *,
    workers: int | None = None,
    keep_checkpoints: bool | None = None,
    progress: StageProgress | None = None,
) -> Content:
    """Check every run of a declaration, and write it to the experiment's folder, with the pairs at their present version.

    What the folder has already is kept: pair sets with their versions, template time, threads. Errors are those of `sweep`.
    """
    content = resolved(folder, declaration, workers=workers, keep_checkpoints=keep_checkpoints, progress=progress)
    folder.write(content)
    return content


def resolved(
    folder: ExperimentFolder,
    declaration: Declaration,
    *,
    workers: int | None = None,
    keep_checkpoints: bool | None = None,
    progress: StageProgress | None = None,
) -> Content:
    """Return what `store_declaration` writes, without writing it."""
    before = folder.read() if folder.exists else None
    moment = before.template_time if before else template_now().replace(microsecond=0).isoformat()
    known = dict(before.pair_sets) if before else {}
    missing = [source for source in sources_of(declaration, "pairs") if source not in known]
    sets = known | {source: PairSet("", 0, "") for source in missing}
    models = {source: _digest(source) for source in sources_of(declaration, "model")}
    if changed := [source for source in models if before and before.models.get(source, models[source]) != models[source]]:
        log.warning("%s has changed since %s was declared, so its runs are trained again.", changed[0], folder.name)
    runs = plan(declaration, sets, template_time=moment)  # raises before pairs are opened
    check_comparison(declaration.compare, variants(runs))
    for run in runs:
        require_known_elsewhere(run.config.objective)
    _check_here([run.config for run in runs])
    for model in dict.fromkeys(run.config.model for run in runs):
        model_source(model, progress)  # an embedded world is built here, once, and not by each of its runs
    used = {run.config.pairs for run in runs}  # with_seed may name pairs for seeds that are not declared yet
    sets = known | {source: _pair_set(source, runs, progress) for source in missing if source in used}
    config = runs[0].config
    small = trains_on_one_thread(config)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers = {workers} does not work: at least one run has to train at a time.")
    default = (before.workers if before else cores() if small else 1) if workers is None else workers
    threads = before.threads if before else 1 if small else max(1, cores() // default) if default > 1 else None
    keep = (before.keep_checkpoints if before else True) if keep_checkpoints is None else keep_checkpoints
    created = before.created if before else now()
    content = Content(declaration, sets, moment, created, threads=threads, workers=default, keep_checkpoints=keep, models=models)
    for run in content.runs:
        if run.config.pairs_version.isdecimal() or run.config.pairs_version != "current":
            version_to_begin_with(PairStore(run.pairs.location), run.config.pairs_version)
    if declaration.compare:
        oracle = any(world_of(PairStore(location).source) for location in {run.pairs.location for run in content.runs})
        check_recorded(declaration.compare, [run.config for run in content.runs], oracle=oracle)
    return content


def start_driver(folder: ExperimentFolder, *, retry: bool = False) -> None:
    """Start the process that starts an experiment's runs, and return when it works. A driver that works already is left alone.

    Raises:
        RunError: If the process ends at once; the sentence has its reason.
    """
    if is_held(folder.path):
        if retry:
            raise RunError(f"The experiment {folder.name} is running; its failed runs can be begun again when it has ended.")
        return
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "lab", "sweep", folder.name, "--resume", "--foreground"]
    source = str(Path(__file__).parents[1])
    others = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, others] if others else [source])}
    with (folder.path / LOG).open("ab") as log:
        began = log.tell()
        process = subprocess.Popen(
            [*command, *(["--retry"] if retry else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    deadline = time.monotonic() + PATIENCE
    while not is_held(folder.path) and time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            with (folder.path / LOG).open(encoding="utf-8", errors="replace") as log:
                log.seek(began)
                lines = [line.strip() for line in log if line.strip()]
            if code == 0:  # everything was done already
                return
            reason = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
            raise RunError(f"The process that starts the runs of {folder.name} has ended: {reason}")
        time.sleep(0.05)


def drive(
    folder: ExperimentFolder,
    *,
    retry: bool = False,
    report: Callable[[ExperimentState], None] = lambda state: None,
    executor: RunExecutor | None = None,
    began: Callable[[Driver], None] = lambda driver: None,
) -> ExperimentState:
    """Start an experiment's runs in this thread until all have ended, and return the last state.

    Args:
        folder: Folder of the experiment.
        retry: Begin failed runs again.
        report: Receives the state, several times a second.
        executor: Makes and starts runs; None for a process per run.
        began: Receives the driver before it begins, so that a signal handler can stop it.

    Raises:
        RunError: If another process does the same, or the folder cannot be used.
    """
    extensions.load()
    try:
        lock = RunLock(folder.path, patience=1.0)
    except RuntimeError:
        raise RunError(
            f"Another process starts the runs of the experiment {folder.name}; `python -m lab sweep {folder.name}` shows them."
        ) from None
    try:
        take(folder.path)  # requests to an earlier process: at once, since those that come from now on are for this one
        content = folder.read()
        for source, digest in content.models.items():
            if digest != _digest(source):
                raise RunError(
                    f"The model {source} has changed since the experiment {folder.name} was declared; declare it again, which "
                    "trains its runs again, or restore the model."
                )
        queue = DeviceQueue(home.queue_dir(), queue_name(content.runs[0].config.device))
        executor = executor or ProcessExecutor(folder.name, content.threads, content.workers, tuple(content.declaration.with_seed))
        driver = Driver(folder, executor, queue=queue, retry=retry, report=report)
        began(driver)
        return driver.run()
    finally:
        lock.release()


def _check_here(configs: Sequence[TrainConfig]) -> None:
    """Check devices, precision and models of some runs on this machine, each combination once, without loading a model."""
    kinds = {
        (c.model, c.lora_rank, c.lora_targets, c.device, c.precision, c.quantize, c.reward_model, c.trackers): c for c in configs
    }
    for config in kinds.values():
        check_requirements(config)
        check_configured_model(config)


def _with_full_paths(declaration: Declaration) -> Declaration:
    """Return a declaration whose files and folders are found from any working folder."""
    full = [_full_paths(part) for part in (declaration.settings, declaration.with_seed, *declaration.objectives)]
    return replace(declaration, settings=full[0], with_seed=full[1], objectives=tuple(full[2:]))


def _full_paths(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _PLACES[name](value) if name in _PLACES else value for name, value in part.items()}


def _digest(model: str) -> str:
    """Return a digest of a model's content: of an embedded world, of its code and settings. Raises ConfigError."""
    if not is_world_name(model):
        return model_digest(model)
    check_world(model)
    return content_hash(WorldSpec.named(model))


def _sources(value: Any) -> Any:
    """Return pairs or models as texts: paths absolute, other sources of pairs by the store that holds them."""
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], Mapping):
        return [_sources(each) for each in value]
    if value is None or isinstance(value, (str, Path)):
        return value if value is None else model_place(value)
    if isinstance(value, PairStore):
        return value.location
    from lab.opening import open_pairs

    return open_pairs(value).location


def _models(value: Any) -> Any:
    """Return models as texts, paths absolute; what is none is returned for validation to refuse."""
    if isinstance(value, (list, tuple)):
        return [_models(each) for each in value]
    return model_place(value) if isinstance(value, (str, Path)) else value


_PLACES: dict[str, Callable[[Any], Any]] = {"pairs": _sources, "model": _models}


def _pair_set(source: str, runs: Sequence[PlannedRun], progress: StageProgress | None) -> PairSet:
    """Return the pair set of a source at its present version."""
    config = next(run.config for run in runs if run.config.pairs == source)
    store = open_configured(source, config, progress=progress)
    return PairSet(store.location, store.version, store.name, home.in_home(store.location))
