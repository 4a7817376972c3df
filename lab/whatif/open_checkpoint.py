"""Opening a run's model at a checkpoint. The two latest stay in memory."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from dataclasses import replace
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch

from lab import extensions, home
from lab.policy import ModelError, Policy, choose_device, choose_layout
from lab.policy.kernels.attention import KERNELS
from lab.policy.logps import whole_head
from lab.policy.memory import available_bytes
from lab.progress import StageProgress
from lab.run.changeable import same_state
from lab.run.checkpoints import START, checkpoints_by_step, not_kept
from lab.run.config import TrainConfig
from lab.run.preflight_report import size
from lab.run.settings import checkpoint_settings, pairs_version_at
from lab.store.folder import METADATA_FILE, read_metadata
from lab.training.checkpoints.branch import read_start
from lab.training.checkpoints.checkpoint import StoredCheckpoint, read_checkpoint, restore_weights
from lab.training.data.encoded_pairs import encode_pair
from lab.training.run_context import new_degree_head
from lab.training.setup.prepare import load_configured
from lab.world import model_source

from .examined import Examined
from .now import TIMEOUT, checkpoint_now
from .reference import References
from .whatif_error import WhatIfError

if TYPE_CHECKING:
    from lab.run.handle import Run

NOW = "now"
KEEP = 2
"""Number of models that stay in memory."""

_open: OrderedDict[tuple[Any, ...], Examined] = OrderedDict()
_lock = threading.RLock()


def openable(run: Run) -> list[int]:
    """Return the steps at which a run's model can be examined, in order.

    These are its checkpoints and its beginning: 0 for the model as it was loaded, which is the reference, or the step of the
    checkpoint that a branch began from.
    """
    return sorted(_places(run.dir))


def examine(
    run: Run | str | Path,
    at: int | str | None = None,
    *,
    device: str | None = None,
    timeout: float = TIMEOUT,
    progress: StageProgress | None = None,
) -> Examined:
    """Open a run's model at a checkpoint, to score pairs and take virtual steps. The run is not changed.

    The two models that were opened last stay in memory; `free` releases them.

    Args:
        run: A run, its folder or its name.
        at: Step of a checkpoint, which `lab.whatif.openable` lists; 0 is the model as it was loaded. None for the latest. "now"
            requests a checkpoint of a live run.
        device: A device; None for the run's own, or the best one if this machine lacks it.
        timeout: Seconds to wait for a checkpoint that was requested.
        progress: Called as progress(stage, share).

    Raises:
        WhatIfError: If there is no such checkpoint, or not enough memory.
        CheckpointError: If the checkpoint is damaged.
        ModelError: If the model cannot be loaded.
    """
    from lab.run.handle import Run, open_run

    extensions.load()
    run = run if isinstance(run, Run) else open_run(run)
    report = progress or (lambda message, share: None)
    step = checkpoint_now(run, timeout=timeout, progress=progress) if at == NOW else _step(run, at)
    key = _key(run, step, device)
    with _lock:  # read one model at a time, and each only once
        if key not in _open:
            while len(_open) >= KEEP:
                _open.popitem(last=False)
            gc.collect()  # models contain reference cycles
            _require_memory(run, step)
            _open[key] = _read(run, step, device, report)
        _open.move_to_end(key)
        return _open[key]


def kept(run: Run, step: int, device: str | None = None) -> Examined | None:
    """Return the model of a checkpoint if it is in memory, else None."""
    return _open.get(_key(run, step, device)) if step in _places(run.dir) else None


def free() -> None:
    """Release all models that are in memory."""
    with _lock:
        _open.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# Which checkpoint.


def _places(folder: Path) -> dict[int, Path | None]:
    """Folder of the checkpoint by its step; None for the model as it was loaded, which a branch does not begin from."""
    loaded: dict[int, Path | None] = {} if (folder / START).exists() else {0: None}
    return loaded | checkpoints_by_step(folder)


def _step(run: Run, at: int | str | None) -> int:
    steps = openable(run)
    if at is None:
        return steps[-1]
    if not isinstance(at, SupportsIndex) or index(at) not in steps:
        raise WhatIfError(not_kept(run.name, at, steps) + (" Step 0 is the model as it was loaded." if 0 in steps else ""))
    return index(at)


def _key(run: Run, step: int, device: str | None) -> tuple[Any, ...]:
    """Identity of an open model. A run that was resumed from an earlier checkpoint can have saved a step twice, hence the time."""
    folder = _places(run.dir).get(step)
    try:
        saved_at = (folder / METADATA_FILE).stat().st_mtime_ns if folder is not None else 0
    except OSError:  # removed at this moment, which reading it will report
        saved_at = 0
    return run.dir.resolve(), step, saved_at, device


# Reading it.


def _require_memory(run: Run, step: int) -> None:
    """Raise WhatIfError if the weights do not fit by the run's preflight report, after releasing the other models."""
    report = run.preflight()
    if report is None:
        return
    memory, full = report.memory, not run.config.lora_rank
    needed = memory.weights * (2 if full and step else 1) + (memory.optimizer if step else 0)
    device = _device(run.config, None)
    if needed > available_bytes(device):
        _open.clear()
        gc.collect()
    if needed > (available := available_bytes(device)):
        raise WhatIfError(
            f"Opening the model of {run.name} takes {size(needed)} of memory, but {size(available)} are free; end other programs, "
            "or examine it on a larger machine."
        )


def _device(config: TrainConfig, device: str | None) -> torch.device:
    if device is not None:
        return choose_device(device)
    try:
        return choose_device(config.device)
    except ModelError:  # trained on another machine
        return choose_device("auto")


def _read(run: Run, step: int, device: str | None, report: StageProgress) -> Examined:
    manifest, place = run.manifest, _places(run.dir).get(step)
    metadata = read_metadata(place) if place is not None and place.name != START else None
    config = run.config.made_at(manifest["created"]) if place is None else checkpoint_settings(place)
    version = int(metadata["pairs_version"]) if metadata else pairs_version_at(run, step)
    config = config.model_copy(update={"device": str(_device(config, device))})
    report("loading the model", 0.0)
    source = model_source(config.model, report)
    policy = load_configured(config, source)
    encoder = policy.encoder(config.max_length)
    store = run.pair_store()
    report("loading the model", 0.4)
    _lay_out(run, policy, config)
    degraded_spec = config.objective.degraded_spec()
    head = new_degree_head(policy, degraded_spec, config.seed) if degraded_spec else None
    state, stored, keep = config.objective.initial_state(), None, True
    if place is not None:
        report(f"reading the checkpoint of step {step:,}", 0.6)
        stored = _read_whole(run, step, place, policy)
        start = read_start(run.dir, manifest) if place.name == START else None
        restore_weights(stored, policy, head, exact=start is None)
        if start is None or same_state(start.objective, config.objective):
            state = dict(stored.state)
        keep = start is None or start.keep_optimizer
        stored = replace(stored, weights={})  # the policy has them now
    references = References(home.cache() / "reference", policy, source, untouched=place is None)
    report("loading the model", 1.0)
    return Examined(run.dir, step, config, version, store, policy, encoder, references, head, state, stored, keep)


def _read_whole(run: Run, step: int, place: Path, policy: Policy) -> StoredCheckpoint:
    try:
        return read_checkpoint(place, policy)
    except ValueError:
        if place.exists():
            raise
        raise WhatIfError(f"The run {run.name} has removed its checkpoint of step {step:,}; choose a later one.") from None


def _lay_out(run: Run, policy: Policy, config: TrainConfig) -> None:
    """Use the batch layout that the run recorded; if it recorded none, choose one as a run does."""
    checks = [detail for detail in run.events("check")["detail"] if "layout" in detail]
    if not checks:
        encoder = policy.encoder(config.max_length)
        pairs = [encode_pair(pair, encoder) for pair in run.pair_store().page(limit=2)[0]]
        choose_layout(policy, [c for pair in pairs for c in pair.completions()], wanted=config.layout)
        return
    recorded = checks[-1]
    if recorded.get("fused") is False:
        policy.unfuse()
    if not recorded.get("narrow"):
        policy.use_whole_last_layer()
    if "whole" in (recorded["layout"], recorded.get("logits")):
        policy.module.head = whole_head(policy.model)
    if recorded["layout"] == "shared":
        if policy.device.type == "cuda" and recorded.get("kernel") in KERNELS:
            policy.shared = recorded["kernel"]
        return
    policy.use_plain_rows()
    policy.single = recorded["layout"] == "single"
