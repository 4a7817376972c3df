"""The processes that train one run together, as `accelerate launch` or `torchrun` started them; usually there is one.

Every process holds the pairs and computes a contiguous part of each batch. The log-probs of all parts are exchanged before the
objective sees them, so the loss of the whole batch and its credit are the same in every process, also for objectives whose
pairs depend on each other; each process then sends the credit of its own part through its own model.
The first process alone writes: store, checkpoints, reference answers, tracker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lab.objectives import PairLogps
from lab.policy import Policy, PromptAnswer


@dataclass(frozen=True)
class Workers:
    """rank: number of this process, 0 writes.   world_size: how many there are.   sharded: the weights are spread over them (FSDP).
    here: how many of them share this machine."""

    rank: int = 0
    world_size: int = 1
    sharded: bool = False
    local_world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the one process that records."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of a batch of `count` pairs; parts differ by at most one pair.

        Raises ValueError where there are fewer pairs than processes.
        """
        if count < self.world_size:
            raise ValueError(
                f"{self.world_size} processes cannot share a batch of {count} pairs; raise batch_size to {self.world_size} or more."
            )
        return slice(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)

    def gather(self, logps: PairLogps) -> list[PairLogps]:
        """The detached log-probs of every process's part, in their order, on this process's device."""
        if self.world_size == 1:
            return [logps]
        device = logps.chosen.device
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, logps.map(lambda t: t.detach().cpu()))
        return [part.map(lambda t: t.to(device)) for part in found]

    def average(self, tensors: Iterable[Tensor | None]) -> None:
        """Replace tensors that every process has by their mean, in place."""
        if self.world_size == 1:
            return
        for tensor in tensors:
            if tensor is not None:
                torch.distributed.all_reduce(tensor)
                tensor /= self.world_size

    def broadcast(self, value: Any) -> Any:
        """The first process's value, in every process."""
        if self.world_size == 1:
            return value
        holder = [value]
        torch.distributed.broadcast_object_list(holder, src=0)
        return holder[0]

    def wait(self) -> None:
        """Until every process is here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def leave(self) -> None:
        """The end of working together."""
        if self.world_size > 1:
            torch.distributed.destroy_process_group()

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """Do something first in the first process, then in the others, which find what it left behind (caches, folders)."""
        if self.world_size > 1 and not self.is_main:
            self.wait()
        try:
            return work()
        finally:
            if self.world_size > 1 and self.is_main:
                self.wait()

    def wrap(self, policy: Policy) -> None:
        """Make a policy's log-probs exchange gradients (DDP) or weights and gradients (FSDP, arXiv 2304.11277)."""
        if self.world_size == 1:
            return
        if not self.sharded:
            places = [policy.device.index] if policy.device.type == "cuda" else None
            policy.wrapped = nn.parallel.DistributedDataParallel(policy.module, device_ids=places, forward_sync_buffers=False)
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(policy.device.type, (self.world_size,))
        for block in _blocks(policy.model):
            fully_shard(block, mesh=mesh)
        policy.wrapped = fully_shard(policy.module, mesh=mesh)
        with torch.no_grad():  # the first pass has to go through the outermost module, so that it knows it is that
            policy.logps([PromptAnswer((policy.pad_id,), (policy.pad_id,))])
        policy.wrapped.reshard()  # what is to be trained are the parts, and the outermost module keeps its own whole after a pass

    def exchange(self, policy: Policy, now: bool) -> None:
        """Whether the next forward and backward pass exchanges gradients; only the last of several micro-batches has to."""
        if self.world_size == 1:
            return
        if self.sharded:
            policy.wrapped.set_requires_gradient_sync(now)
        else:
            policy.wrapped.require_backward_grad_sync = now


ALONE = Workers()


def join(device: str) -> tuple[Workers, str]:
    """Join the other processes, if a launcher started several; returns the workers and the device of this one.

    `accelerate launch --use_fsdp` shards the weights (its FSDP settings beyond that are not read); anything else replicates them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE, device
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes))
    return Workers(state.process_index, state.num_processes, sharded, local_world_size), str(state.device)


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor spread as `parameter` is, on its device."""
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None or value.shape != parameter.shape:
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements)  # type: ignore[attr-defined]


def _blocks(model: Any) -> list[nn.Module]:
    """The layers that repeat, each of which is spread and gathered as a whole."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(getattr(base, "_no_split_modules", None) or ())
    return [module for module in base.modules() if type(module).__name__ in names]
