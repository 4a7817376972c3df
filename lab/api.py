"""The lab's front door: open pairs, train, open runs. Here the rooms are put together, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import extensions, home
from lab.diagnosis.alerts import Alerts, parse_hook
from lab.diagnosis.monitor import DiagnosticsMonitor
from lab.judging import OracleJudge, RewardJudge
from lab.objectives import Objective, PairLogps
from lab.opening import WORLD, Progress, open_pairs
from lab.pairs import Pair, PairStore
from lab.policy import Policy, choose_layout
from lab.policy.loading import check_model
from lab.run import RunLock
from lab.run.config import ConfigError, TrainConfig
from lab.run.handle import Run, find_run, open_run
from lab.run.preflight_report import Preflight
from lab.store import SilentWriter, StoreReader, StoreWriter, list_checkpoints, read_manifest
from lab.store.durable import disk_errors_in_words
from lab.training import DeviceSlot, Training, create_run, start, start_process
from lab.training.data.encoded_pairs import encode_pair
from lab.training.distributed import ALONE, Workers
from lab.training.evaluation.evaluator import Judge
from lab.training.lifecycle import check_new_folder, recording_failure
from lab.training.loop import OnStep
from lab.training.setup.branch import copy_start, plan_branch, read_start
from lab.training.setup.executor_choice import Executor, choose_executor
from lab.training.setup.prepare import look_ahead
from lab.training.setup.requirements import check_requirements
from lab.training.setup.without_change import changes_made_after, revert_changes
from lab.training.step import concatenate, pair_logps
from lab.training.trackers import Recorder, tracked_run, tracker_names

extensions.load()


@disk_errors_in_words()
def train(
    objective: Any = None,
    pairs: Any = None,
    model: str | Path | None = None,
    *,
    branch_from: Run | str | Path | None = None,
    at: int | None = None,
    keep_optimizer: bool = True,
    run_dir: str | Path | None = None,
    resume: bool = False,
    without_change: int | None = None,
    executor: Executor | None = None,
    queue: bool = True,
    background: bool = True,
    on_step: OnStep | None = None,
    progress: Progress | None = None,
    listed: bool = True,
    **settings: Any,
) -> Run:
    """Start a run and return a handle on it at once; training goes on in the background.

    objective: a name, {"name": ..., parameters}, or an Objective.   pairs: whatever `open_pairs` takes (default: the world's).
    model: "world" (the default), a folder or a hub id.   settings: every other field of `TrainConfig` by name.
    resume: continue the run in `run_dir` from its latest checkpoint, with the settings it was made with and their changes.
    without_change: resume without the change that was made after this step (`run.changes()` lists them): the run goes back to its
    last checkpoint from before it and continues as if the change had never been made; later changes are made again at their steps.
    branch_from: a run, its folder or its name: begin from its checkpoint of step `at` (default: the latest), with the settings and
    pairs in use there where none are given. Steps go on counting, so `steps` is where it ends. The reference stays its parent's.
    keep_optimizer=False begins with fresh AdamW statistics.
    executor: "thread" trains in a thread of this program and ends, with a checkpoint, when the program does. "process" trains in a
    process of its own that outlives this program; the choice for anything long. None or "auto": a process for models of more than
    100 million parameters, or whose weights, gradients and optimizer take more than a tenth of the memory; else a thread, as with
    on_step and objectives that only this program knows.
    queue: wait until no other run trains on the same device (`lab.queue()` shows the order, `Run.move` changes it); a paused run
    keeps its device, a stopped one does not. False starts at once, beside others.
    background=False returns when the run has ended.   on_step(step, scalars) is called in the training thread.
    progress(what, share) reports while the embedded world is built, the first time.   listed=False keeps the run off `runs()`.
    Raises ConfigError, PairsError or RunError, each in one sentence, before anything is started.
    """
    executor = executor or "auto"
    if executor not in ("auto", "thread", "process"):
        raise ConfigError(f'There is no executor {executor!r}; choose "auto", "thread" or "process".')
    if executor == "process" and on_step is not None:
        raise ConfigError('on_step is called in the training thread, which another process cannot do; use executor="thread".')
    options: dict[str, Any] = {"executor": executor, "queue": queue, "background": background, "on_step": on_step}
    if resume:
        others = (objective, pairs, model, branch_from, at)
        if any(given is not None for given in others) or settings or run_dir is None or not (keep_optimizer and listed):
            raise ConfigError("To resume, give run_dir and nothing else: a run goes on with the settings it was made with.")
        return start_run(find_run(run_dir), without_change=without_change, progress=progress, **options)
    if without_change is not None:
        raise ConfigError("without_change belongs to resuming; give run_dir and resume=True with it.")
    if branch_from is None and (at is not None or not keep_optimizer):
        raise ConfigError("at and keep_optimizer belong to a branch; give branch_from, the run to begin from.")
    chosen: dict[str, Any] = {"objective": objective, "pairs": pairs, "model": model, "run_dir": run_dir, "listed": listed}
    branch: dict[str, Any] = {"branch_from": branch_from, "at": at, "keep_optimizer": keep_optimizer}
    folder = make_run(**chosen, **branch, known_elsewhere=executor == "process", progress=progress, **settings)
    return start_run(folder, progress=progress, **options)


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
    progress: Progress | None = None,
    **settings: Any,
) -> Path:
    """Make the folder of a run without starting it; arguments and errors are those of `train`.

    known_elsewhere: the objective has to be one that another process finds, too.
    about: facts for `run.json` in place of those that would be found here (`pairs_store`, `pairs_version`, `pairs_name`).
    """
    if branch_from is not None:
        given = {"objective": objective, "model": None if model is None else _model_place(model)}
        given = settings | {name: value for name, value in given.items() if value is not None}
        parent = branch_from if isinstance(branch_from, Run) else open_run(branch_from)
        folder = _branch(parent, at, given, pairs, run_dir, keep_optimizer, known_elsewhere, manifest or {})
        if listed:
            home.list_run(folder)
        return folder
    pairs, model = WORLD if pairs is None else pairs, WORLD if model is None else model
    if objective is None:
        raise ConfigError('Give an objective, for example objective="sgdpo".')
    config = _parse(objective, pairs, model, settings).made_at()
    if known_elsewhere:
        require_known_elsewhere(config.objective)
    check_requirements(config)
    store = open_pairs(pairs, progress=progress)
    _check_model(config)
    if not config.pairs:
        config = config.model_copy(update={"pairs": str(store.path)})
    folder = Path(run_dir) if run_dir is not None else home.new_run_dir(config.objective.name)
    found = {"pairs_store": str(store.path), "pairs_version": store.version, "pairs_name": store.name}
    create_run(folder, config, **found | dict(manifest or {}))
    if listed:
        home.list_run(folder)
    return folder


def _parse(objective: Any, pairs: Any, model: str | Path, settings: Mapping[str, Any]) -> TrainConfig:
    """The settings of a new run from the arguments of `train` or `preflight`. Raises ConfigError."""
    named = str(pairs) if isinstance(pairs, (str, Path)) else ""
    return TrainConfig.parse(objective=objective, pairs=named, model=_model_place(model), **settings)


def _model_place(model: str | Path) -> str:
    """A model as run.json keeps it: a path that leads somewhere becomes absolute, so that it is found from another folder too."""
    named = str(model)
    try:
        path = Path(named).expanduser()
        return str(path.resolve()) if named.strip() and named != WORLD and path.exists() else named
    except (OSError, ValueError, RuntimeError):  # no path that a file system knows; the check says so
        return named


def _check_model(config: TrainConfig) -> None:
    """Raises ModelError in one sentence unless the model of a new run can be loaded, as far as that shows without its weights."""
    if config.model != WORLD:
        check_model(config.model, lora=config.lora)


def _branch(
    parent: Run,
    at: int | None,
    given: dict[str, Any],
    pairs: Any,
    run_dir: Any,
    keep_optimizer: bool,
    known_elsewhere: bool,
    more: Mapping[str, Any],
) -> Path:
    """Make the folder of a run that begins from a checkpoint of another."""
    manifest = parent.manifest
    store = PairStore(Path(manifest["pairs_store"])) if pairs is None else open_pairs(pairs)
    version, name = (manifest["pairs_version"], manifest["pairs_name"]) if pairs is None else (store.version, store.name)
    if pairs is not None:
        given = given | {"pairs": str(pairs) if isinstance(pairs, (str, Path)) else str(store.path)}
    branch = plan_branch(parent.dir, at, given, keep_optimizer=keep_optimizer, same_pairs=pairs is None)
    if known_elsewhere:
        require_known_elsewhere(branch.config.objective)
    check_requirements(branch.config)
    _check_model(branch.config)
    folder = Path(run_dir) if run_dir is not None else home.new_run_dir(branch.config.objective.name)
    found = {"pairs_store": str(store.path), "pairs_version": version, "pairs_name": name}
    create_run(folder, branch.config, **found | dict(more), branch=branch.parent)
    copy_start(folder, branch)
    return folder


def start_run(
    folder: Path,
    *,
    executor: Executor = "thread",
    queue: bool = True,
    background: bool = True,
    on_step: OnStep | None = None,
    progress: Progress | None = None,
    without_change: int | None = None,
    lock: RunLock | None = None,
    workers: Workers = ALONE,
    device: str | None = None,
) -> Run:
    """Train the run that was made in `folder`, from its latest checkpoint or from its beginning; see `train`.

    without_change: leave out the changes made after this step before going on.
    lock: the hold on the folder that this process was born with, where it is the one that executor="process" has started.
    workers, device: the processes that train it together, and this one's device; one that does not write trains in this thread.
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
    store = PairStore(Path(manifest["pairs_store"]))
    slot = DeviceSlot(folder, home.queue_dir(), config.device, workers) if queue else None
    model = config.model
    beginning = read_start(folder, manifest)
    oracle: OracleJudge | None = None
    from lab.world import ensure, is_world

    on_world = is_world(store.source)
    if config.model == WORLD or on_world:
        world = ensure(cache=home.cache(), progress=progress)
        model = str(world.model_dir) if config.model == WORLD else config.model
        if on_world:
            oracle = OracleJudge(world)

    trackers = tracker_names(config.trackers)

    def make(writer: StoreWriter) -> Training:
        left_out = revert_changes(folder, without_change) if without_change is not None and workers.is_main else []
        resumed = workers.broadcast(_was_trained(folder) if workers.is_main else None)
        if workers.is_main:
            tracked = tracked_run(folder, config, manifest["created"], resumed=resumed)
            writer.listeners.append(DiagnosticsMonitor(folder, writer, _alerts(config, writer, here=lock is None)))
            writer.listeners += [Recorder(name, tracked, lambda s, w: writer.event(s, "warning", message=w)) for name in trackers]
        judge: Judge | None = oracle
        if config.reward_model:
            own = oracle.prompts if oracle else ()
            judge = RewardJudge(config.reward_model, device=config.device, prompts=own, moment=config.moment)
        return Training(
            folder,
            config,
            pairs_at=store.all,
            pairs_version=manifest["pairs_version"],
            model=model,
            cache=home.cache(),
            store=writer,
            judge=judge,
            resume=resumed,
            start=beginning,
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
    kept = {"token_steps": config.token_steps, "keep_pair_rows": config.keep_pair_rows}
    thread = start(folder, make, slot=slot, lock=lock, background=background, workers=workers, **kept)
    return Run(folder, thread)


def _only_here(config: TrainConfig, on_step: OnStep | None) -> str | None:
    """What another process would not know of a run; None where it knows all."""
    if on_step is not None:
        return "on_step"
    try:
        require_known_elsewhere(config.objective)
    except ConfigError:
        return f"the objective {config.objective.name}"
    return None


def _alerts(config: TrainConfig, writer: StoreWriter, *, here: bool) -> Alerts | None:
    """What tells people of findings outside of the page, or None where nobody asked. here: this process has a terminal to speak
    in; what one that was born detached prints goes to a log that nobody sees."""
    hook = parse_hook(config.alert_webhook, config.alert_hosts) if config.alert_webhook else None
    terminal = config.alerts == "terminal" and here
    if hook is None and not terminal:
        return None
    return Alerts(terminal=terminal, hook=hook, warn=lambda message: writer.event(0, "warning", message=message))


def _was_trained(folder: Path) -> bool:
    """Whether the run was ever more than made and queued, so that there is something to resume."""
    return StoreReader(folder).step > 0 or bool(list_checkpoints(folder))


def require_known_elsewhere(objective: Objective) -> None:
    """Raises ConfigError where an objective, or one inside it, was registered by this program alone."""
    inner = [value for _, value in objective if isinstance(value, Objective)]
    for one in (objective, *inner):
        if not type(one).__module__.startswith(("lab.objectives.", extensions.PREFIX)):
            raise ConfigError(
                f"Another process does not know {one.name!r}, which was registered in this program: put its lines into a file in "
                f'{extensions.folder()}, or use executor="thread".'
            )


@disk_errors_in_words()
def preflight(
    objective: Any,
    pairs: Any = WORLD,
    model: str | Path = WORLD,
    *,
    run_dir: str | Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Preflight:
    """What a run with these settings would meet: lengths, cuts, memory, time. Takes what `train` takes, and makes no run.

    The model is loaded and a few pairs go through it; `report.lines()` is the report in words.
    run_dir, executor: refused where `train` would refuse them.   progress(what, share) says how far it is.
    Raises ConfigError, PairsError, ModelError or RunError, each in one sentence.
    """
    config = _parse(objective, pairs, model, settings)
    if executor == "process":
        require_known_elsewhere(config.objective)
    check_requirements(config)
    say = progress or (lambda what, share: None)
    stored = open_pairs(pairs, progress=progress).all()
    _check_model(config)
    check_new_folder(Path(run_dir) if run_dir is not None else home.new_run_dir(config.objective.name))
    folder = config.model
    if folder == WORLD:
        from lab.world import ensure

        folder = str(ensure(cache=home.cache(), progress=progress).model_dir)
    return look_ahead(config, stored, model=folder, cache=home.cache(), report_stage=lambda what, share=0.0: say(what, share))


def token_logps(
    model: Any, tokenizer: Any, pairs: PairStore | Sequence[Any], *, max_length: int = 1024, batch_size: int = 16
) -> PairLogps:
    """Token log-probs (nats) of a causal LM on some pairs: PairLogps of float32 [B, T], no gradient, no reference.

    model, tokenizer: as transformers loads them.   pairs: a PairStore, Pairs, or dicts in TRL's preference formats.
    """
    import torch

    from lab.objectives import DPO

    chosen: Sequence[Pair] = pairs.all() if isinstance(pairs, PairStore) else _as_pairs(pairs)
    device = next(model.parameters()).device
    policy = Policy(model, tokenizer, device)
    encoder = policy.encoder(max_length)
    encoded = [encode_pair(pair, encoder) for pair in chosen]
    if not encoded:
        raise ValueError("There are no pairs to compute log-probs of; give at least one.")
    was_training = model.training
    model.eval()
    try:
        policy.share_prompts()
        choose_layout(policy, [c for pair in encoded[:2] for c in (pair.chosen, pair.rejected)], training=False)
        with torch.no_grad():
            parts = [pair_logps(policy, DPO(), encoded[i : i + batch_size], None) for i in range(0, len(encoded), batch_size)]
    finally:
        policy.plain_rows()  # the model belongs to the caller, who gets it back as it was
        model.train(was_training)
    return concatenate(parts)


def _as_pairs(pairs: Sequence[Any]) -> list[Pair]:
    from lab.pairs import pair_of

    return [p if isinstance(p, Pair) else pair_of(p) for p in pairs]
