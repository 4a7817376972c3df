"""Checkpoints: a folder per step, written under a temporary name, synced and renamed, so that it is whole or absent.

Safetensors and JSON only. The policy lies in it as an ordinary Hugging Face model or peft adapter. Data order, schedule and random
numbers are functions of the configuration, its changes and the step, so what is written down of them is those.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lab.objectives import State
from lab.policy import Policy, full_tensor
from lab.policy.sources import ModelError, is_converted, read_weights
from lab.policy.sources.stored_adapters import check_adapter_names
from lab.store import durable
from lab.store.folder import CHECKPOINTS, METADATA_FILE, RunError, list_checkpoints, read_metadata, step_of
from lab.training.distributed import like

TENSORS = "trainer.safetensors"
DAMAGED = "damaged-"
"""Before the name of a checkpoint that could not be read, so that it is kept and not met again."""

CheckpointPurpose = Literal["keep", "look"]
"""Purpose of a requested checkpoint: "keep" stays until the run is deleted, "look" until the next one (see `lab.whatif`)."""


class CheckpointError(RunError):
    """A checkpoint that cannot be written or read, in one sentence."""


@dataclass
class TrainingState:
    """How far a run is: optimizer steps done, completion tokens seen, seconds trained, the objective's state, and what the
    evaluation at this very step found (None if there was none). clock: seconds since the run began, waiting included."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    state: State | None = None
    evaluation: dict[str, float] | None = None
    clock: float = 0.0


@dataclass(frozen=True)
class Stored:
    """A checkpoint that has been read whole; nothing is put back yet.

    weights: the policy's, by name.   head: the degree head's, or empty.   slots: the optimizer's values by parameter and slot.
    """

    folder: Path
    metadata: dict[str, Any]
    weights: dict[str, Tensor]
    head: dict[str, Tensor]
    slots: dict[str, dict[str, Tensor]] = field(repr=False)
    state: State

    @property
    def progress(self) -> TrainingState:
        """How far the run was."""
        metadata = self.metadata
        clock = metadata.get("clock", metadata["seconds"])  # checkpoints of earlier versions have none
        return TrainingState(
            metadata["step"], metadata["tokens"], metadata["seconds"], dict(self.state), metadata["evaluation"], clock
        )


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds as numbers. weights: the policy's, where they had to be gathered from several processes."""

    tensors: dict[str, Tensor]
    weights: dict[str, Tensor] | None = None


def take_snapshot(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    progress: TrainingState,
    degree_head: nn.Module | None,
    *,
    sharded: bool = False,
) -> Snapshot:
    """The numbers of a run at this moment. Where weights are sharded, every process has to take it."""
    weights = None
    if sharded:
        policy.wrapped.reshard()  # after a pass without gradients it still holds its own weights whole, which nobody trains
        weights = {name: full_tensor(value).cpu() for name, value in policy.model.state_dict().items()}
    return Snapshot(_tensors(policy, optimizer, progress, degree_head), weights)


def save_checkpoint(run_dir: Path, policy: Policy, snapshot: Snapshot, progress: TrainingState, manifest: dict[str, Any]) -> Path:
    """Write `checkpoints/step-N` with plain facts about the run beside the numbers.

    Raises CheckpointError if the disk refuses; then no other checkpoint is touched.
    """
    folder = run_dir / CHECKPOINTS / f"step-{progress.step:06d}"
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        folder.parent.mkdir(exist_ok=True)
        _sweep(folder.parent)
        draft.mkdir()
        policy.save(draft, snapshot.weights)
        save_file(snapshot.tensors, draft / TENSORS)
        metadata: dict[str, Any] = {"step": progress.step, "tokens": progress.tokens, "seconds": progress.seconds}
        metadata["clock"] = progress.clock
        metadata |= {"evaluation": progress.evaluation, "kernel": policy.shared, "device": policy.device.type}
        sizes = {path.name: path.stat().st_size for path in sorted(draft.iterdir())}
        (draft / METADATA_FILE).write_text(json.dumps(metadata | manifest | {"files": sizes}), encoding="utf-8")
        durable.publish(draft, folder)
        durable.sync(run_dir)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {progress.step} could not be written ({_reason(error)}); make room, earlier ones are kept."
        ) from error
    return folder


def add_evaluation(run_dir: Path, step: int, evaluation: dict[str, float]) -> None:
    """Write down what a look found at a step whose checkpoint had been saved before the look came to its end."""
    folder = run_dir / CHECKPOINTS / f"step-{step:06d}"
    if folder.exists():
        durable.write_json(folder / METADATA_FILE, read_metadata(folder) | {"evaluation": evaluation})


def keep_asked(run_dir: Path, step: int) -> None:
    """Write down that somebody asked to keep a checkpoint that is there already."""
    folder = run_dir / CHECKPOINTS / f"step-{step:06d}"
    if folder.exists():
        durable.write_json(folder / METADATA_FILE, read_metadata(folder) | {"asked": "keep"})


def drop_old(run_dir: Path, keep: int, best: Path | None) -> None:
    """Delete old checkpoints. What stays: the latest `keep` of those that the run saves by itself, the best, those that somebody
    asked for to keep, and the latest of those that somebody asked for to look at."""
    regular: list[Path] = []
    looked_at: list[Path] = []
    for checkpoint in list_checkpoints(run_dir):
        try:
            asked = read_metadata(checkpoint).get("asked")
        except RunError:  # damaged: resuming from it says so
            asked = None
        if asked != "keep":
            (looked_at if asked == "look" else regular).append(checkpoint)
    for old in [*regular[:-keep], *looked_at[:-1]]:
        if old != best:
            durable.remove(old)


def read_checkpoint(folder: Path, policy: Policy) -> Stored:
    """Read a checkpoint of a run with a policy of this kind. Raises CheckpointError, in one sentence, if it is damaged."""
    try:
        metadata = read_metadata(folder)
        for name, size in metadata["files"].items():
            found = (folder / name).stat().st_size
            if found != size:
                raise CheckpointError(f"{name} has {found} bytes where {size} were written")
        tensors = load_file(folder / TENSORS)
        slots: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, slot, name = key.split(".", 2)
                slots.setdefault(name, {})[slot] = value
        return Stored(folder, metadata, _weights(folder, policy), _part(tensors, "head."), slots, _part(tensors, "state."))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {folder} is damaged ({_reason(error)}).") from error


def latest_whole(run_dir: Path, policy: Policy) -> tuple[Stored | None, list[str]]:
    """The latest checkpoint that can be read, and a sentence for every later one that cannot; those are set aside by another name.

    (None, []) where the run has no checkpoint. Raises CheckpointError where it has some and none can be read.
    """
    complaints: list[str] = []
    for folder in reversed(list_checkpoints(run_dir)):
        try:
            found = read_checkpoint(folder, policy)
        except CheckpointError as error:
            complaints.append(str(error))
            continue
        for later in list_checkpoints(run_dir):
            if step_of(later) > step_of(folder):
                durable.sync(later.rename(_free(later.with_name(f"{DAMAGED}{later.name}"))).parent)
        return found, complaints
    if complaints:
        raise CheckpointError(
            f"No checkpoint of this run can be read: {' '.join(complaints)} Start a new run, or delete the folder "
            f"{run_dir / CHECKPOINTS} to begin this one from its first step."
        )
    return None, []


def put_back(stored: Stored, policy: Policy, degree_head: nn.Module | None, *, exact: bool = True) -> None:
    """Put policy and head to where the checkpoint left them; the caller has built them as for a new run.

    exact=False: a head of another shape is left out (a branch).
    Raises CheckpointError where the policy's weights do not fit, or the head with exact=True.
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


def put_back_optimizer(
    stored: Stored, policy: Policy, optimizer: torch.optim.Optimizer, degree_head: nn.Module | None, *, exact: bool = True
) -> None:
    """The same for an optimizer, once the parameters are those it trains (spread over processes, where they are).

    exact=False leaves out values of another shape. Raises CheckpointError for them with exact=True.
    """
    named: dict[str, nn.Parameter] = dict(policy.parameters())
    if degree_head is not None:
        named |= {f"degree_head.{name}": p for name, p in degree_head.named_parameters()}
    for name, values in stored.slots.items():
        parameter = named.get(name)
        if parameter is not None and all(v.shape in (parameter.shape, torch.Size()) for v in values.values()):
            # AdamW's fused form keeps its step counter beside the parameter, the plain form on the host.
            optimizer.state[parameter] = {slot: like(value, parameter) for slot, value in values.items()}
        elif exact:
            raise CheckpointError(
                f"The checkpoint {stored.folder} does not fit this run (the optimizer's values of {name} fit nothing)."
            )


def _tensors(
    policy: Policy, optimizer: torch.optim.Optimizer, progress: TrainingState, degree_head: nn.Module | None
) -> dict[str, Tensor]:
    tensors = {f"state.{name}": torch.as_tensor(value).clone() for name, value in (progress.state or {}).items()}
    names = {id(p): name for name, p in policy.parameters().items()}
    if degree_head is not None:
        tensors |= {f"head.{name}": value.detach().cpu().clone() for name, value in degree_head.state_dict().items()}
        names |= {id(p): f"degree_head.{name}" for name, p in degree_head.named_parameters()}
    for parameter, slots in optimizer.state.items():
        tensors |= {
            # No copy on the CPU: it is written before anything changes it.
            f"optimizer.{slot}.{names[id(parameter)]}": full_tensor(value.detach()).cpu().contiguous()
            for slot, value in slots.items()
        }
    return tensors


def _weights(folder: Path, policy: Policy) -> dict[str, Tensor]:
    """The policy's weights as stored. Raises ModelError where some are missing or left over, or where the start has changed."""
    if not policy.adapter:
        return read_weights(type(policy.model), str(folder), None).state_dict()
    from peft import get_peft_model_state_dict, load_peft_weights

    base = str(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path"))
    own = str(policy.model.get_base_model().config._name_or_path)
    if is_converted(own) and Path(base).name != Path(own).name:
        raise ModelError("the adapter or GGUF file that the run began with has changed since: put the old one back")
    weights = load_peft_weights(str(folder), device=str(policy.device))
    expected = get_peft_model_state_dict(policy.model)
    check_adapter_names("its adapter", set(expected), set(weights))
    return weights


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed while it saved, or while it deleted, has left."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path)


def _free(path: Path) -> Path:
    """A name that nothing has yet: the checkpoint of a step may be damaged, written again, and damaged again."""
    number, found = 2, path
    while found.exists():
        number, found = number + 1, path.with_name(f"{path.name}-{number}")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
