"""Checkpoints: a folder per step, written under a temporary name, synced and renamed, so that it is whole or absent.

Safetensors and JSON only. The policy lies in it as an ordinary Hugging Face model or peft adapter.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lab.monitor.folder import CHECKPOINTS, list_checkpoints
from lab.objectives import State
from lab.policy import Policy


@dataclass
class Progress:
    """How far a run is: optimizer steps done, completion tokens seen, seconds trained, and the objective's state."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    state: State | None = None


def save_checkpoint(
    run_dir: Path, policy: Policy, optimizer: torch.optim.Optimizer, progress: Progress, degree_head: nn.Module | None, *, keep: int
) -> Path:
    """Write `checkpoints/step-N` and drop all but the latest `keep`. If the disk refuses (OSError), nothing older is lost."""
    folder = run_dir / CHECKPOINTS / f"step-{progress.step:06d}"
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    policy.save(draft)
    tensors = {f"state.{name}": torch.as_tensor(value).clone() for name, value in (progress.state or {}).items()}
    names = {id(p): name for name, p in policy.parameters().items()}
    if degree_head is not None:
        tensors |= {f"head.{name}": value.detach().cpu().clone() for name, value in degree_head.state_dict().items()}
        names |= {id(p): f"degree_head.{name}" for name, p in degree_head.named_parameters()}
    for parameter, slots in optimizer.state.items():
        tensors |= {f"optimizer.{slot}.{names[id(parameter)]}": value.detach().cpu().clone() for slot, value in slots.items()}
    save_file(tensors, draft / "trainer.safetensors")
    (draft / "trainer.json").write_text(json.dumps({"step": progress.step, "tokens": progress.tokens, "seconds": progress.seconds}))
    for path in draft.iterdir():
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    _sync(folder.parent)
    for old in list_checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old)
    return folder


def restore(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, degree_head: nn.Module | None) -> Progress:
    """Put policy, head and optimizer back to where the checkpoint left them; the caller has built them as for a new run."""
    _restore_policy(folder, policy)
    tensors = load_file(folder / "trainer.safetensors")
    numbers = json.loads((folder / "trainer.json").read_text())
    named: dict[str, nn.Parameter] = dict(policy.parameters())
    if degree_head is not None:
        degree_head.load_state_dict(
            {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
        )
        named |= {f"degree_head.{name}": p for name, p in degree_head.named_parameters()}
    slots: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, slot, name = key.split(".", 2)
            slots.setdefault(name, {})[slot] = value
    for name, values in slots.items():
        parameter = named[name]
        # AdamW's fused form keeps its step counter beside the parameter, the plain form on the host.
        optimizer.state[parameter] = {slot: value.to(parameter.device) for slot, value in values.items()}
    state = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
    return Progress(numbers["step"], numbers["tokens"], numbers["seconds"], state)


def _restore_policy(folder: Path, policy: Policy) -> None:
    if policy.adapter:
        from peft import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(policy.model, load_peft_weights(str(folder), device=str(policy.device)))
        return
    stored: Any = type(policy.model).from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    policy.model.load_state_dict(stored.state_dict())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
