"""The lab's front door: open pairs, train, open runs. Here the rooms are put together, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab import extensions, home
from lab.judging import OracleJudge, RewardJudge
from lab.monitor import read_about
from lab.objectives import PairLogps
from lab.pairs import Pair, PairStore
from lab.pairs import open_pairs as open_stored_pairs
from lab.policy import Encoder, Policy, ensure_right_head
from lab.policy.logps import split_head
from lab.run import Run
from lab.training import ConfigError, TrainConfig, Training, create_run, start
from lab.training.batches import encode_pair
from lab.training.evaluation import Judge
from lab.training.loop import OnStep
from lab.training.step import concatenate, pair_logps

WORLD = "world"

extensions.load()
Progress = Callable[[str, float], None]


def open_pairs(source: Any = WORLD, *, split: str = "train", progress: Progress | None = None) -> PairStore:
    """Preference pairs as a versioned, editable store.

    source: "world" (the embedded one), a JSONL, JSON, CSV or Parquet file, a hub id, a `datasets.Dataset`, a list of dicts,
    or a store's own .sqlite file. Opening the same content again finds the edits made before.
    progress(what, share) reports while the embedded world is built, the first time.
    Raises PairsError in one sentence that names the line.
    """
    if isinstance(source, PairStore):
        return source
    stores = home.home() / "pairs"
    if source == WORLD:
        from lab.world import ensure

        return open_stored_pairs(ensure(cache=home.cache(), progress=progress).pairs_path, home=stores)
    return open_stored_pairs(source, split=split, home=stores)


def train(
    objective: Any = None,
    pairs: Any = WORLD,
    model: str | Path = WORLD,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    background: bool = True,
    on_step: OnStep | None = None,
    progress: Progress | None = None,
    listed: bool = True,
    **settings: Any,
) -> Run:
    """Start a run and return a handle on it at once; training goes on in a background thread.

    objective: a name, {"name": ..., parameters}, or an Objective.   pairs: whatever `open_pairs` takes.
    model: "world", a folder or a hub id.   settings: every other field of `TrainConfig` by name.
    resume: continue the run in `run_dir` from its latest checkpoint, with the settings it was made with.
    background=False trains in this thread and returns when it is done.   on_step(step, scalars) is called in the training thread.
    progress(what, share) reports while the embedded world is built, the first time.   listed=False keeps the run off `runs()`.
    Raises ConfigError, PairsError or RunError, each in one sentence, before anything is started.
    """
    if resume:
        if objective is not None or settings or run_dir is None:
            raise ConfigError("To resume, give run_dir and nothing else: a run goes on with the settings it was made with.")
        return _start(Path(run_dir), background=background, on_step=on_step, resume=True, progress=progress)
    if objective is None:
        raise ConfigError('Give an objective, for example objective="sgdpo".')
    model = Path(model).resolve() if Path(model).is_dir() else model  # so that it is found from another folder, too
    config = TrainConfig.parse(
        objective=objective, pairs=str(pairs) if isinstance(pairs, (str, Path)) else "", model=str(model), **settings
    )
    store = open_pairs(pairs, progress=progress)
    if not config.pairs:
        config = config.model_copy(update={"pairs": str(store.path)})
    folder = Path(run_dir) if run_dir is not None else home.new_run_dir(config.objective.name)
    create_run(folder, config, pairs_store=str(store.path), pairs_version=store.version, pairs_name=store.name)
    if listed:
        home.list_run(folder)
    return _start(folder, background=background, on_step=on_step, resume=False, progress=progress)


def _start(folder: Path, *, background: bool, on_step: OnStep | None, resume: bool, progress: Progress | None) -> Run:
    about = read_about(folder)
    config = TrainConfig.parse(**about["config"])
    store = PairStore(Path(about["pairs_store"]))
    model = config.model
    oracle: OracleJudge | None = None
    from lab.world import ensure, is_world

    on_world = is_world(store.source)
    if config.model == WORLD or on_world:
        world = ensure(cache=home.cache(), progress=progress)
        model = str(world.model_dir) if config.model == WORLD else config.model
        if on_world:
            oracle = OracleJudge(world)

    def make(writer: Any) -> Training:
        judge: Judge | None = oracle
        if config.reward_model:
            judge = RewardJudge(config.reward_model, device=config.device, prompts=oracle.prompts if oracle else ())
        return Training(
            folder,
            config,
            store.all(about["pairs_version"]),
            model=model,
            cache=home.cache(),
            store=writer,
            judge=judge,
            resume=resume,
            on_step=on_step,
        )

    thread = start(folder, make, token_steps=config.token_steps, background=background)
    return Run(folder, thread)


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
    policy = Policy(model, tokenizer, device, "", False, split_head(model))
    encoder = Encoder(tokenizer, min(max_length, policy.positions))
    encoded = [encode_pair(pair, encoder) for pair in chosen]
    if not encoded:
        raise ValueError("There are no pairs to compute log-probs of; give at least one.")
    was_training = model.training
    model.eval()
    try:
        ensure_right_head(policy, [c for pair in encoded[:2] for c in (pair.chosen, pair.rejected)])
        with torch.no_grad():
            parts = [pair_logps(policy, DPO(), encoded[i : i + batch_size], None) for i in range(0, len(encoded), batch_size)]
    finally:
        model.train(was_training)
    return concatenate(parts)


def _as_pairs(pairs: Sequence[Any]) -> list[Pair]:
    from lab.pairs import pair_of

    return [p if isinstance(p, Pair) else pair_of(p) for p in pairs]
