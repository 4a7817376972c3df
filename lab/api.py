"""The library's entry points: train, preflight, suspects and token_logps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import home
from lab.opening import WORLD, open_configured
from lab.pairs import Pair, PairStore
from lab.progress import StageProgress
from lab.run.config import ConfigError
from lab.run.handle import Run
from lab.run.lookup import find_run
from lab.run.pair_versions import version_to_begin_with
from lab.run.preflight_report import Preflight
from lab.starting import check_configured_model, make_run, parse, require_known_elsewhere, start_run
from lab.store import RunError
from lab.store.durable import disk_errors_as_run_errors
from lab.store.folder import NoStoreError
from lab.training.run_folder import check_new_folder
from lab.training.setup.executor_choice import Executor
from lab.training.setup.requirements import check_requirements
from lab.world import is_world_name, model_source

if TYPE_CHECKING:
    import pandas as pd

    from lab.objectives import PairLogps
    from lab.training.loop import OnStep

log = logging.getLogger(__name__)


@disk_errors_as_run_errors()
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
    progress: StageProgress | None = None,
    listed: bool = True,
    **settings: Any,
) -> Run:
    """Start a run and return a handle to it; training goes on in the background.

    Returns once the settings, the pairs and the files of the model have been checked; torch, transformers and the model are
    loaded in the background. Only checking the files of a model of your own needs torch and transformers before.

    lab.train("sgdpo", "pairs.jsonl", "Qwen/Qwen2.5-0.5B", r1=0.7, steps=500, lora_rank=16)

    Args:
        objective: A name, {"name": ..., parameters}, or an Objective.
        pairs: Anything that `lab.open_pairs` accepts; None for the pairs of the embedded world.
        model: "world" (the default), another embedded world ("world-hard", "world:3"), a folder or a hub id.
        branch_from: A run, its folder or its name: begin from its checkpoint of step `at`, with the settings and pairs in use
            there. Steps continue to count, so `steps` is the step at which the branch ends. The reference is its parent's.
        at: Step of the checkpoint to branch from; None for the latest.
        keep_optimizer: Whether a branch continues with the checkpoint's AdamW moments, or with fresh ones.
        run_dir: Folder of the run; None makes one in `LAB_HOME`.
        resume: Continue the run in `run_dir` from its latest checkpoint, with its own settings. To continue a paused run, use
            `Run.resume`; to train longer than its `steps`, branch from it.
        without_change: With resume: undo the change made after this step (`Run.changes` lists them). The run continues from its
            last checkpoint before that change; later changes are made again at their steps.
        executor: "thread" trains in a thread of this program, which stops with a checkpoint when the program ends. "process"
            trains in a process that outlives this program. None or "auto" chooses a process for models of more than 100 million
            parameters, or whose weights, gradients and optimizer take more than a tenth of the memory; else a thread, also for
            `on_step` and for objectives defined in this program.
        queue: Wait until no other run trains on the same device (`lab.queue` shows the order, `Run.move` changes it). A paused run
            keeps its device, a stopped one does not. False starts at once.
        background: Whether to return at once; False returns when the run has ended.
        on_step: Called in the training thread as on_step(step, scalars).
        progress: Called as progress(stage, share) while the embedded world is built, the first time.
        listed: Whether `lab.runs` lists the run.
        settings: Fields of `TrainConfig`, and parameters of the objective.

    Raises:
        ConfigError: For settings that are not possible.
        PairsError: If the pairs cannot be read.
        ModelError: If the model cannot be loaded.
        RunError: If the run's folder cannot be used.
    """
    executor = executor or "auto"
    if executor not in ("auto", "thread", "process"):
        raise ConfigError(f'There is no executor {executor!r}; choose "auto", "thread" or "process".')
    if executor == "process" and on_step is not None:
        raise ConfigError('on_step is called in the training thread, which needs executor="thread".')
    options: dict[str, Any] = {"executor": executor, "queue": queue, "background": background, "on_step": on_step}
    if resume:
        others = (objective, pairs, model, branch_from, at)
        if any(given is not None for given in others) or settings or run_dir is None or not (keep_optimizer and listed):
            raise ConfigError(
                "To resume, give run_dir and nothing else: a run continues with the settings that it was made with. To train "
                "longer or with other settings, branch from it: lab.train(branch_from=run, steps=...)."
            )
        folder = find_run(run_dir)
        if without_change is None:
            check_state_to_resume(folder)
        return start_run(folder, without_change=without_change, progress=progress, **options)
    if without_change is not None:
        raise ConfigError("without_change belongs to resuming; give run_dir and resume=True with it.")
    if branch_from is None and (at is not None or not keep_optimizer):
        raise ConfigError("at and keep_optimizer belong to a branch; give branch_from, the run to begin from.")
    chosen: dict[str, Any] = {"objective": objective, "pairs": pairs, "model": model, "run_dir": run_dir, "listed": listed}
    branch: dict[str, Any] = {"branch_from": branch_from, "at": at, "keep_optimizer": keep_optimizer}
    folder = make_run(**chosen, **branch, known_elsewhere=executor == "process", progress=progress, **settings)
    return start_run(folder, progress=progress, **options)


def check_state_to_resume(folder: Path) -> None:
    """Raise RunError for a paused run, and warn of one that has no steps left."""
    try:
        run = Run(folder)
    except NoStoreError:  # made, but never started
        return
    state = run.state
    if state == "paused":
        raise RunError(
            f"The run {run.name} is paused and has not ended; continue it with run.resume(), or with "
            f"python -m lab show {run.dir.name} --resume."
        )
    steps = run.manifest["config"]["steps"]
    if state == "finished" and run.step >= steps:
        log.warning(
            "The run %s has finished its %s steps, so resuming it trains no further. To train longer, branch from it with more "
            "steps: lab.train(branch_from=%r, steps=%d), or python -m lab train --branch %s --steps %d.",
            run.name, f"{steps:,}", run.dir.name, 2 * steps, run.dir.name, 2 * steps,
        )  # fmt: skip


@disk_errors_as_run_errors()
def preflight(
    objective: Any,
    pairs: Any = WORLD,
    model: str | Path = WORLD,
    *,
    run_dir: str | Path | None = None,
    executor: Executor | None = None,
    progress: StageProgress | None = None,
    **settings: Any,
) -> Preflight:
    """Return the preflight report of a run without making one: lengths, truncation, memory, time.

    Loads the model and passes a few pairs through it. Arguments and errors are those of `lab.train`; `progress(stage, share)` is
    called meanwhile. `report.lines()` is the report as text.
    """
    config = parse(objective, pairs, model, settings)
    if executor == "process":
        require_known_elsewhere(config.objective)
    check_requirements(config)
    report = progress or (lambda stage, share: None)
    store = open_configured(pairs, config, progress=progress)
    stored = store.all(version_to_begin_with(store, config.pairs_version))
    check_configured_model(config)
    check_new_folder(home.full_path(run_dir) if run_dir is not None else home.new_run_dir(config.objective.name))
    folder = model_source(config.model, progress)
    from lab.training.setup.prepare import look_ahead

    return look_ahead(config, stored, model=folder, cache=home.cache(), report_stage=lambda stage, share=0.0: report(stage, share))


def token_logps(
    model: Any, tokenizer: Any, pairs: PairStore | Sequence[Any], *, max_length: int = 1024, batch_size: int = 16
) -> PairLogps:
    """Compute the token log-probs of a causal language model on preference pairs, without gradient and reference.

    Args:
        model: A causal language model of transformers. It is returned to its mode (train or eval).
        tokenizer: Its tokenizer.
        pairs: A PairStore, or a sequence of Pairs or of dicts in TRL's preference formats.
        max_length: Most tokens of prompt and answer; longer prompts lose their beginning.
        batch_size: Pairs computed at once.

    Returns:
        Log-probs in nats, float32 [B, T] on each side, 0 where the mask is False.

    Raises:
        ValueError: If there are no pairs, or the tokenizer cannot represent a text.
    """
    import torch

    from lab.objectives import DPO
    from lab.policy import Policy, choose_layout
    from lab.training.data.encoded_pairs import encode_pair
    from lab.training.step import concatenate, pair_logps

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
        policy.use_plain_rows()  # the caller's model is left unchanged
        model.train(was_training)
    return concatenate(parts)


def suspects(
    pairs: Any = WORLD,
    model: str | Path = WORLD,
    *,
    folds: int = 3,
    repeats: int = 1,
    epochs: float = 1.0,
    progress: StageProgress | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Find pairs whose label is probably flipped, by short DPO runs with held-out folds.

    Trains `folds` times `repeats` times from the same model, in this thread. The embedded world's 3,000 pairs take about
    70 s of one core with 3 folds. More folds and repeats find more.

    Args:
        pairs: Anything that `lab.open_pairs` accepts, or a list of Pairs.
        model: "world", a folder or a hub id.
        folds: Runs per repeat; each is trained on all folds but one.
        repeats: Times the folds are drawn anew.
        epochs: Passes of each run through its pairs.
        progress: Called as progress(stage, share done); may raise to stop.
        settings: Fields of `TrainConfig`, for example lora_rank and device; by default batch_size=16 and learning_rate=1e-3 for the
            world's model, 2e-4 for others.

    Returns:
        One row per pair, the most suspicious first; see `lab.evidence.find_suspects`.

    Raises:
        ConfigError: For settings that are not possible.
        PairsError: If the pairs cannot be read, or are too few.
        ModelError: If the model cannot be loaded.
    """
    from lab.evidence import find_suspects, steps_for

    chosen = list(pairs) if isinstance(pairs, (list, tuple)) and all(isinstance(pair, Pair) for pair in pairs) else None
    config = parse("dpo", "", model, {"batch_size": 16, "learning_rate": 1e-3 if is_world_name(str(model)) else 2e-4} | settings)
    stored = open_configured(pairs, config, progress=progress).all() if chosen is None else chosen
    if "steps" not in settings:
        config = config.model_copy(update={"steps": steps_for(len(stored), max(folds, 2), config.batch_size, epochs)})
    check_configured_model(config)
    folder = model_source(config.model, progress)
    return find_suspects(stored, config, model=folder, cache=home.cache(), folds=folds, repeats=repeats, progress=progress)


def _as_pairs(pairs: Sequence[Any]) -> list[Pair]:
    from lab.pairs import pair_of

    return [p if isinstance(p, Pair) else pair_of(p) for p in pairs]
