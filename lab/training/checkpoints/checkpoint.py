"""Checkpoints: one folder per step, written under a temporary name, synced and renamed, so that it is complete or absent.

Safetensors and JSON only; the policy is stored as an ordinary Hugging Face model or peft adapter. Data order, schedule and random
numbers are functions of configuration, changes and step, so only those are stored.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lab.objectives import State
from lab.policy import Policy, full_tensor
from lab.policy.sources.converted import is_converted
from lab.policy.sources.model_error import ModelError
from lab.policy.sources.stored_adapters import check_adapter_names
from lab.policy.sources.weight_loading import read_weights
from lab.store import durable
from lab.store.folder import CHECKPOINTS, METADATA_FILE, RunError, list_checkpoints, read_metadata, step_of
from lab.training.distributed import shard_like

TENSORS = "trainer.safetensors"
DAMAGED = "damaged-"
"""Prefix given to the name of a checkpoint that cannot be read, so that it is kept but no longer used."""


class CheckpointError(RunError):
    """A checkpoint cannot be written or read."""


@dataclass
class TrainingState:
    """Progress of a run.

    Attributes:
        step: Optimizer steps done.
        tokens: Completion tokens trained on.
        seconds: Seconds trained.
        objective_state: State of the objective (moving statistics).
        evaluation: Scalars of the evaluation at this step; None if there was none.
        clock: Seconds since the run began, waiting included.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    objective_state: State | None = None
    evaluation: dict[str, float] | None = None
    clock: float = 0.0


@dataclass(frozen=True)
class StoredCheckpoint:
    """The content of a checkpoint, read into memory.

    Attributes:
        folder: Folder of the checkpoint.
        metadata: Step, settings, changes and further entries (`trainer.json`).
        weights: Weights of the policy (of the adapter, if it has one) by name.
        head: Weights of SPO's degree head; empty without one.
        slots: Optimizer state by parameter name and slot ("exp_avg", "exp_avg_sq", "step").
        objective_state: State of the objective (moving statistics).
    """

    folder: Path
    metadata: dict[str, Any]
    weights: dict[str, Tensor]
    head: dict[str, Tensor]
    slots: dict[str, dict[str, Tensor]] = field(repr=False)
    state: State

    @property
    def training_state(self) -> TrainingState:
        """Progress of the run at the checkpoint."""
        metadata = self.metadata
        clock = metadata.get("clock", metadata["seconds"])  # checkpoints of earlier versions have none
        return TrainingState(
            metadata["step"], metadata["tokens"], metadata["seconds"], dict(self.state), metadata["evaluation"], clock
        )


@dataclass(frozen=True)
class Snapshot:
    """Tensors to write into a checkpoint.

    Attributes:
        tensors: Optimizer state, degree head and objective state.
        weights: Weights of the policy where they were gathered from several processes; None otherwise.
    """

    tensors: dict[str, Tensor]
    weights: dict[str, Tensor] | None = None


def take_snapshot(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    degree_head: nn.Module | None,
    *,
    sharded: bool = False,
) -> Snapshot:
    """Collect the tensors of a run for a checkpoint. With sharded weights every process has to make this call.

    Args:
        policy: The model in training.
        optimizer: Its optimizer.
        state: Progress of the run, with the objective's state.
        degree_head: SPO's head, or None.
        sharded: Whether weights are sharded (FSDP).
    """
    weights = None
    if sharded:
        policy.wrapped.reshard()  # after a pass without gradients the root module still holds unsharded copies
        weights = {name: full_tensor(value).cpu() for name, value in policy.model.state_dict().items()}
    return Snapshot(_tensors(policy, optimizer, state, degree_head), weights)


def save_checkpoint(run_dir: Path, policy: Policy, snapshot: Snapshot, state: TrainingState, entries: dict[str, Any]) -> Path:
    """Write the checkpoint `checkpoints/step-N`; return its folder.

    Args:
        run_dir: Folder of the run.
        policy: The model to save.
        snapshot: See `take_snapshot`.
        state: Progress of the run.
        entries: Settings, changes and further entries of the metadata.

    Raises:
        CheckpointError: The disk refuses; other checkpoints stay as they are.
    """
    folder = run_dir / CHECKPOINTS / f"step-{state.step:06d}"
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        folder.parent.mkdir(exist_ok=True)
        _remove_drafts(folder.parent)
        draft.mkdir()
        policy.save(draft, snapshot.weights)
        save_file(snapshot.tensors, draft / TENSORS)
        metadata: dict[str, Any] = {"step": state.step, "tokens": state.tokens, "seconds": state.seconds}
        metadata["clock"] = state.clock
        metadata |= {"evaluation": state.evaluation, "kernel": policy.shared, "device": policy.device.type}
        sizes = {path.name: path.stat().st_size for path in sorted(draft.iterdir())}
        (draft / METADATA_FILE).write_text(json.dumps(metadata | entries | {"files": sizes}), encoding="utf-8")
        durable.publish(draft, folder)
        durable.sync(run_dir)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {state.step} could not be written ({_reason(error)}); make room, earlier ones are kept."
        ) from error
    return folder


def add_evaluation(run_dir: Path, step: int, evaluation: dict[str, float]) -> None:
    """Add an evaluation to the metadata of its step's checkpoint, if that was saved before the evaluation had finished."""
    folder = run_dir / CHECKPOINTS / f"step-{step:06d}"
    if folder.exists():
        durable.write_json(folder / METADATA_FILE, read_metadata(folder) | {"evaluation": evaluation})


def mark_kept(run_dir: Path, step: int) -> None:
    """Mark an existing checkpoint to be kept until the run is deleted. Raises OSError."""
    folder = run_dir / CHECKPOINTS / f"step-{step:06d}"
    if folder.exists():
        durable.write_json(folder / METADATA_FILE, read_metadata(folder) | {"purpose": "keep"})


def remove_old(run_dir: Path, keep: int, best: Path | None) -> None:
    """Delete old checkpoints of a run.

    Requested checkpoints (see `CheckpointPurpose`) stay if they are to be kept; of those made for inspection the latest stays.

    Args:
        run_dir: Folder of the run.
        keep: How many of the latest automatic checkpoints stay.
        best: The best checkpoint, which stays too, or None.

    Raises:
        OSError: A checkpoint cannot be deleted.
    """
    automatic: list[Path] = []
    inspected: list[Path] = []
    for checkpoint in list_checkpoints(run_dir):
        try:
            purpose = read_metadata(checkpoint).get("purpose")
        except RunError:  # damaged; resuming from it reports the error
            purpose = None
        if purpose != "keep":
            (inspected if purpose == "inspect" else automatic).append(checkpoint)
    for old in [*automatic[:-keep], *inspected[:-1]]:
        if old != best:
            durable.remove(old)


def read_checkpoint(folder: Path, policy: Policy) -> StoredCheckpoint:
    """Read a checkpoint into memory.

    Args:
        folder: Folder of the checkpoint.
        policy: A policy of the run's model and adapter settings; it stays unchanged.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    try:
        metadata = read_metadata(folder)
        for name, size in metadata["files"].items():
            present = (folder / name).stat().st_size
            if present != size:
                raise CheckpointError(f"{name} has {present} bytes where {size} were written")
        tensors = load_file(folder / TENSORS)
        slots: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, slot, name = key.split(".", 2)
                slots.setdefault(name, {})[slot] = value
        weights = _weights(folder, policy)
        return StoredCheckpoint(folder, metadata, weights, _part(tensors, "head."), slots, _part(tensors, "state."))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {folder} is damaged ({_reason(error)}).") from error


def latest_readable(run_dir: Path, policy: Policy) -> tuple[StoredCheckpoint | None, list[str]]:
    """Return the latest checkpoint that can be read, and an error message for every later one; those are renamed.

    Returns (None, []) for a run without checkpoints. Raises CheckpointError where none of its checkpoints can be read.
    """
    errors: list[str] = []
    for folder in reversed(list_checkpoints(run_dir)):
        try:
            checkpoint = read_checkpoint(folder, policy)
        except CheckpointError as error:
            errors.append(str(error))
            continue
        for later in list_checkpoints(run_dir):
            if step_of(later) > step_of(folder):
                durable.sync(later.rename(_unused_name(later.with_name(f"{DAMAGED}{later.name}"))).parent)
        return checkpoint, errors
    if errors:
        raise CheckpointError(
            f"No checkpoint of this run can be read: {' '.join(errors)} Start a new run, or delete the folder "
            f"{run_dir / CHECKPOINTS} to begin this one from its first step."
        )
    return None, []


def restore_weights(stored: StoredCheckpoint, policy: Policy, degree_head: nn.Module | None, *, exact: bool = True) -> None:
    """Load the weights of a checkpoint into policy and degree head.

    Args:
        stored: The checkpoint.
        policy: The policy, built with the run's model and adapter settings.
        degree_head: SPO's head, or None.
        exact: False leaves a head of another shape as it is (a branch with another number of degrees).

    Raises:
        CheckpointError: The weights do not fit.
    """
    try:
        if policy.adapter:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(policy.model, stored.weights)
        else:
            policy.model.load_state_dict(stored.weights)
        if degree_head is not None:
            own = degree_head.state_dict()
            if exact or {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in stored.head.items()}:
                degree_head.load_state_dict(stored.head)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"The checkpoint {stored.folder} does not fit this run ({_reason(error)}).") from error


def restore_optimizer_state(
    stored: StoredCheckpoint,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    degree_head: nn.Module | None,
    *,
    exact: bool = True,
) -> None:
    """Restore the optimizer state of a checkpoint. Call it once the parameters are final (sharded where they are).

    Args:
        stored: The checkpoint.
        policy: The model in training.
        optimizer: The optimizer of its parameters.
        degree_head: SPO's head, or None.
        exact: False leaves out state of another shape (a branch).

    Raises:
        CheckpointError: A parameter's state has another shape and `exact` is True.
    """
    named: dict[str, nn.Parameter] = dict(policy.parameters())
    if degree_head is not None:
        named |= {f"degree_head.{name}": p for name, p in degree_head.named_parameters()}
    for name, values in stored.slots.items():
        parameter = named.get(name)
        if parameter is not None and all(v.shape in (parameter.shape, torch.Size()) for v in values.values()):
            # AdamW's fused form keeps its step counter beside the parameter, the plain form on the host.
            optimizer.state[parameter] = {slot: shard_like(value, parameter) for slot, value in values.items()}
        elif exact:
            raise CheckpointError(
                f"The checkpoint {stored.folder} does not fit this run (the optimizer state of {name} fits no parameter)."
            )


def _tensors(
    policy: Policy, optimizer: torch.optim.Optimizer, state: TrainingState, degree_head: nn.Module | None
) -> dict[str, Tensor]:
    tensors = {f"state.{name}": torch.as_tensor(value).clone() for name, value in (state.objective_state or {}).items()}
    names = {id(p): name for name, p in policy.parameters().items()}
    if degree_head is not None:
        tensors |= {f"head.{name}": value.detach().cpu().clone() for name, value in degree_head.state_dict().items()}
        names |= {id(p): f"degree_head.{name}" for name, p in degree_head.named_parameters()}
    for parameter, slots in optimizer.state.items():
        tensors |= {
            # On the CPU nothing is copied: the file is written before the values change.
            f"optimizer.{slot}.{names[id(parameter)]}": full_tensor(value.detach()).cpu().contiguous()
            for slot, value in slots.items()
        }
    return tensors


def _weights(folder: Path, policy: Policy) -> dict[str, Tensor]:
    """Read the policy's weights. Raises ModelError where names differ, or where the adapter's base model has changed."""
    if not policy.adapter:
        return read_weights(type(policy.model), str(folder), None).state_dict()
    from peft import get_peft_model_state_dict, load_peft_weights

    base = str(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path"))
    own = str(policy.model.get_base_model().config._name_or_path)
    if is_converted(own) and Path(base).name != Path(own).name:
        raise ModelError("the adapter or GGUF file that the run began with has changed since; restore the old one")
    weights = load_peft_weights(str(folder), device=str(policy.device))
    expected = get_peft_model_state_dict(policy.model)
    check_adapter_names("its adapter", set(expected), set(weights))
    return weights


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _remove_drafts(folder: Path) -> None:
    """Remove incomplete checkpoints of a process that was killed while it saved or deleted one."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path)


def _unused_name(path: Path) -> Path:
    """Return `path`, with a number appended where it exists (a step's checkpoint may be damaged more than once)."""
    number, unused = 2, path
    while unused.exists():
        number, unused = number + 1, path.with_name(f"{path.name}-{number}")
    return unused


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
