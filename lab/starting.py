"""Make the folder of a run, and start its training in a thread or a process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import extensions, home
from lab.objectives import Objective
from lab.opening import WORLD, open_configured, open_pairs, stored_place
from lab.pairs import PairStore
from lab.pairs.importing import OnError
from lab.progress import StageProgress
from lab.run import RunLock
from lab.run.checkpoints import find_checkpoint
from lab.run.config import ConfigError, TrainConfig, with_parameters
from lab.run.handle import Run, open_run
from lab.run.pair_versions import CURRENT, is_fixed, version_to_begin_with
from lab.run.settings import checkpoint_settings
from lab.store import Change, SilentWriter, StoreReader, StoreWriter, list_checkpoints, read_manifest
from lab.training.checkpoints.branch import copy_start, plan_branch, read_start
from lab.training.control.device_slot import DeviceSlot
from lab.training.distributed import ALONE, Workers
from lab.training.lifecycle import recording_failure, start
from lab.training.run_folder import create_run
from lab.training.setup.child_process import start_process
from lab.training.setup.executor_choice import Executor, choose_executor
from lab.training.setup.requirements import check_requirements
from lab.training.setup.without_change import changes_made_after, revert_changes
from lab.training.trackers import Recorder, tracked_run, tracker_names
from lab.world import WorldError, WorldSpec, is_world_name, model_source, open_world, world_of

if TYPE_CHECKING:
    from lab.diagnosis.alerts import Alerts
    from lab.training.evaluation.evaluator import Judge
    from lab.training.loop import OnStep, Training

extensions.load()
log = logging.getLogger(__name__)


def make_run(
    objective: Any = None,
    pairs: Any = None,
    model: str | Path | None = None,
    *,
    branch_from: Run | str | Path | None = None,
    at: int | None = None,
    keep_optimizer: bool = True,
    run_dir: str | Path | None = None,
    listed: bool = True,
    known_elsewhere: bool = False,
    manifest: Mapping[str, Any] | None = None,
    progress: StageProgress | None = None,
    **settings: Any,
) -> Path:
    """Make the folder of a run without starting it, and return it for `start_run`.

    Arguments and errors are those of `lab.train`, and two more: `known_elsewhere` refuses an objective that another process cannot
    import; `manifest` replaces entries of `run.json` that describe the pairs (pairs_store, pairs_version, pairs_name).
    """
    if branch_from is not None:
        parent = branch_from if isinstance(branch_from, Run) else open_run(branch_from)
        if objective is not None or not settings.keys() <= TrainConfig.model_fields.keys():
            former = checkpoint_settings(find_checkpoint(parent.dir, at)).objective if objective is None else objective
            objective, settings = with_parameters(former, settings)
        chosen = {"objective": objective, "model": None if model is None else model_place(model)}
        chosen = settings | {name: value for name, value in chosen.items() if value is not None}
        folder = _branch(parent, at, chosen, pairs, run_dir, keep_optimizer, known_elsewhere, manifest or {})
        if listed:
            home.list_run(folder)
        return folder
    pairs, model = WORLD if pairs is None else pairs, WORLD if model is None else model
    if objective is None:
        raise ConfigError('Give an objective, for example objective="sgdpo".')
    config = parse(objective, pairs, model, settings).made_at()
    if known_elsewhere:
        require_known_elsewhere(config.objective)
    check_requirements(config)
    store = open_configured(pairs, config, progress=progress)
    stored = {"pairs_store": store.location, "pairs_version": store.version, "pairs_name": store.name} | dict(manifest or {})
    if is_fixed(config.pairs_version) or manifest is None:
        stored["pairs_version"] = version_to_begin_with(store, config.pairs_version)
    check_configured_model(config)
    if not config.pairs:
        config = config.model_copy(update={"pairs": store.location})
    folder = home.full_path(run_dir) if run_dir is not None else home.new_run_dir(config.objective.name)
    create_run(folder, config, **stored)
    if listed:
        home.list_run(folder)
    return folder


def parse(objective: Any, pairs: Any, model: str | Path, settings: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a new run from the arguments of `lab.train` or `lab.preflight`. Raises ConfigError."""
    if "like" in settings:
        raise ConfigError(
            "like belongs to lab.train_twins; lab.train_twin(run, objective) starts one run that begins as another did, and "
            "branch_from=run one that begins from its checkpoint."
        )
    objective, settings = with_parameters(objective, settings)
    named = str(stored_place(pairs)) if isinstance(pairs, (str, Path)) else ""
    return TrainConfig.parse(objective=objective, pairs=named, model=model_place(model), **settings)


def check_world(name: str) -> None:
    """Raise ConfigError if there is no embedded world of a name."""
    try:
        WorldSpec.named(name)
    except WorldError as error:
        raise ConfigError(str(error)) from None


def model_place(model: str | Path) -> str:
    """Return a model as `run.json` stores it: existing paths become absolute, so that they are valid in another folder too."""
    named = str(model)
    try:
        path = Path(named).expanduser()
        return str(path.resolve()) if named.strip() and not is_world_name(named) and path.exists() else named
    except (OSError, ValueError, RuntimeError):  # not a valid path; `check_model` reports it
        return named


def check_configured_model(config: TrainConfig) -> None:
    """Check the model of a new run without reading its weights. Raises ModelError, or ConfigError for a world's name."""
    if is_world_name(config.model):
        check_world(config.model)
    else:
        from lab.policy.loading import check_model  # imports torch and transformers

        check_model(config.model, lora=config.lora)


def _branch(
    parent: Run,
    at: int | None,
    chosen: dict[str, Any],
    pairs: Any,
    run_dir: Any,
    keep_optimizer: bool,
    known_elsewhere: bool,
    more: Mapping[str, Any],
) -> Path:
    """Make the folder of a run that begins from another run's checkpoint."""
    manifest = parent.manifest
    pairs = stored_place(pairs)
    place = {name: chosen[name] for name in ("split", "configuration") if name in chosen}
    skip: OnError = "skip" if chosen.get("skip_bad_rows") else "refuse"
    store = PairStore(manifest["pairs_store"]) if pairs is None else open_pairs(pairs, **place, on_error=skip)
    wanted = str(chosen.get("pairs_version", CURRENT))
    if pairs is not None:
        version, name = version_to_begin_with(store, wanted), store.name
        chosen = chosen | {"pairs_version": wanted, "pairs": str(pairs) if isinstance(pairs, (str, Path)) else store.location}
    else:
        version, name = manifest["pairs_version"], manifest["pairs_name"]
    branch = plan_branch(parent.dir, at, chosen, keep_optimizer=keep_optimizer, same_pairs=pairs is None)
    if pairs is None and is_fixed(wanted):
        change = Change(branch.parent["step"], pairs_version=version_to_begin_with(store, wanted))
        branch = replace(branch, changes=[*branch.changes, change])
    if known_elsewhere:
        require_known_elsewhere(branch.config.objective)
    check_requirements(branch.config)
    check_configured_model(branch.config)
    folder = home.full_path(run_dir) if run_dir is not None else home.new_run_dir(branch.config.objective.name)
    stored = {"pairs_store": store.location, "pairs_version": version, "pairs_name": name}
    create_run(folder, branch.config, **stored | dict(more), branch=branch.parent)
    copy_start(folder, branch)
    return folder


def start_run(
    folder: Path,
    *,
    executor: Executor = "thread",
    queue: bool = True,
    background: bool = True,
    on_step: OnStep | None = None,
    progress: StageProgress | None = None,
    without_change: int | None = None,
    lock: RunLock | None = None,
    workers: Workers = ALONE,
    device: str | None = None,
    queues: Path | None = None,
) -> Run:
    """Train the run in a folder, from its latest checkpoint or from the beginning, and return a handle to it.

    Args:
        folder: Folder of a run that `make_run` has made.
        executor: "thread", "process" or "auto", as in `lab.train`.
        queue: Wait until no other run trains on the device.
        background: Return at once; False returns when the run has ended.
        on_step: Receives (step, scalars) of every step, in the training thread.
        progress: Receives (text, share done) while the embedded world is built.
        without_change: Leave out the changes that were made when this many steps were done.
        lock: Run lock inherited from the parent process; None acquires one.
        workers: The processes that train the run together; all but the main one train in the calling thread.
        device: Device of this process; None for the run's setting.
        queues: Folder of the queues to wait in; None for the machine's.

    Raises:
        ConfigError, RunError, ModelError: As `lab.train`.
    """
    manifest = read_manifest(folder)
    config = TrainConfig.parse(**manifest["config"]).made_at(manifest["created"])
    if executor == "auto":
        executor = choose_executor(config, only_here=_only_here(config, on_step)).executor
    if without_change is not None and workers.is_main:
        changes_made_after(folder, without_change)
    if device is not None:
        config = config.model_copy(update={"device": device})
    if executor == "process":
        require_known_elsewhere(config.objective)
    store = PairStore(manifest["pairs_store"])
    slot = DeviceSlot(folder, queues or home.queue_dir(), config.device, workers) if queue else None
    checkpoint = read_start(folder, manifest)
    model = model_source(config.model, progress)
    spec = world_of(store.source)
    oracle_of = open_world(spec.name, progress) if spec else None
    trackers = tracker_names(config.trackers)

    def make(writer: StoreWriter) -> Training:
        from lab.diagnosis.monitor import DiagnosticsMonitor
        from lab.training.data.stored_pairs import StoredPairs
        from lab.training.evaluation.judges import OracleJudge, RewardJudge
        from lab.training.loop import Training

        left_out = revert_changes(folder, without_change) if without_change is not None and workers.is_main else []
        resumed = workers.broadcast(_was_trained(folder) if workers.is_main else None)
        if workers.is_main:
            tracked = tracked_run(folder, config, manifest["created"], resumed=resumed)
            writer.listeners.append(DiagnosticsMonitor(folder, writer, _alerts(config, writer, has_terminal=lock is None)))
            writer.listeners += [Recorder(name, tracked, lambda s, w: writer.event(s, "warning", message=w)) for name in trackers]
        stored = StoredPairs(store)
        oracle = OracleJudge(oracle_of) if oracle_of is not None else None
        judge: Judge | None = oracle
        if config.reward_model:
            own = oracle.prompts if oracle else ()
            judge = RewardJudge(config.reward_model, device=config.device, prompts=own, moment=config.moment)
        return Training(
            folder,
            config,
            pairs_at=stored.at,
            newest_version=stored.newest,
            pairs_version=manifest["pairs_version"],
            model=model,
            cache=home.cache(),
            store=writer,
            judge=judge,
            resume=resumed,
            start=checkpoint,
            left_out=left_out,
            on_step=on_step,
            workers=workers,
        )

    if not workers.is_main:
        if slot is None or slot.wait_for_main():
            with recording_failure(folder, workers):
                make(SilentWriter()).run()
        return Run(folder)
    if executor == "process":
        start_process(folder, queue=queue, without_change=without_change)
        run = Run(folder)
        if not background:
            run.wait()
        return run
    limits = {"token_steps": config.token_steps, "keep_pair_rows": config.keep_pair_rows}
    try:
        thread = start(folder, make, slot=slot, lock=lock, background=background, workers=workers, **limits)
    except KeyboardInterrupt:  # after the run has stopped with a checkpoint
        log.warning("Stopped at step %s; continue with lab.train(run_dir=%r, resume=True).", f"{Run(folder).step:,}", str(folder))
        raise
    return Run(folder, thread)


def _only_here(config: TrainConfig, on_step: OnStep | None) -> str | None:
    """Return what prevents training in another process, or None."""
    if on_step is not None:
        return "on_step"
    try:
        require_known_elsewhere(config.objective)
    except ConfigError:
        return f"the objective {config.objective.name}"
    return None


def _alerts(config: TrainConfig, writer: StoreWriter, *, has_terminal: bool) -> Alerts | None:
    """Return the alerts of the settings, or None. A detached process has no terminal, only a log file."""
    from lab.diagnosis.alerts import Alerts, parse_hook

    hook = parse_hook(config.alert_webhook, config.alert_hosts) if config.alert_webhook else None
    terminal = config.alerts == "terminal" and has_terminal
    if hook is None and not terminal:
        return None
    return Alerts(terminal=terminal, hook=hook, warn=lambda message: writer.event(0, "warning", message=message))


def _was_trained(folder: Path) -> bool:
    """Return whether the run has ever trained, so that it is resumed and not started."""
    return StoreReader(folder).step > 0 or bool(list_checkpoints(folder))


def require_known_elsewhere(objective: Objective) -> None:
    """Raise ConfigError if an objective, or one nested in it, is defined in this program alone."""
    nested = [value for _, value in objective if isinstance(value, Objective)]
    for each in (objective, *nested):
        if not type(each).__module__.startswith(("lab.objectives.", extensions.PREFIX)):
            raise ConfigError(
                f"Another process does not know {each.name!r}, which is defined in this program: put the definition into a file in "
                f'{extensions.folder()}, or use executor="thread".'
            )
