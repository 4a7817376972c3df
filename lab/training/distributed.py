"""The processes that train one run together, started by `accelerate launch` or `torchrun`; usually there is only one.

Every process holds all pairs and computes a contiguous part of each batch. The log-probs of all parts are gathered before the
objective is called, so loss and credit of the whole batch are equal in every process, also for objectives whose pairs depend on
each other; each process then backpropagates the credit of its own part. Only the main process (rank 0) writes: store,
checkpoints, reference answers, trackers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.deferred import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lab.objectives import PairLogps
    from lab.policy import Policy


@dataclass(frozen=True)
class Workers:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: Number of this process; 0 is the main process.
        world_size: Number of processes.
        sharded: Whether weights are sharded over them (FSDP) rather than replicated (DDP).
        local_world_size: Number of them on this machine.
    """

    rank: int = 0
    world_size: int = 1
    sharded: bool = False
    local_world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the process that writes store and checkpoints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's part of a batch of `count` pairs; the sizes of parts differ by at most one pair.

        Raises ValueError for fewer pairs than processes.
        """
        if count < self.world_size:
            raise ValueError(
                f"{self.world_size} processes cannot share a batch of {count} pairs; raise batch_size to {self.world_size} or more."
            )
        return slice(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)

    def gather(self, logps: PairLogps) -> list[PairLogps]:
        """Return the log-probs of every process's part, by rank, detached, on this process's device."""
        if self.world_size == 1:
            return [logps]
        device = logps.chosen.device
        parts: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(parts, logps.map(lambda t: t.detach().cpu()))
        return [part.map(lambda t: t.to(device)) for part in parts]

    def average(self, tensors: Iterable[Tensor | None]) -> None:
        """Replace tensors by their mean over all processes, in place."""
        if self.world_size == 1:
            return
        for tensor in tensors:
            if tensor is not None:
                torch.distributed.all_reduce(tensor)
                tensor /= self.world_size

    def broadcast(self, value: Any) -> Any:
        """Return the main process's `value` in every process."""
        if self.world_size == 1:
            return value
        holder = [value]
        torch.distributed.broadcast_object_list(holder, src=0)
        return holder[0]

    def wait(self) -> None:
        """Wait until every process has made this call."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def leave(self) -> None:
        """End communication between the processes."""
        if self.world_size > 1:
            torch.distributed.destroy_process_group()

    def main_process_first(self, work: Callable[[], Any]) -> Any:
        """Call `work` in the main process first, then in the others, which can use the files it wrote; return its result."""
        if self.world_size > 1 and not self.is_main:
            self.wait()
        try:
            return work()
        finally:
            if self.world_size > 1 and self.is_main:
                self.wait()

    def wrap(self, policy: Policy) -> None:
        """Wrap a policy in DistributedDataParallel or fully_shard (FSDP, arXiv 2304.11277); does nothing for a single process."""
        if self.world_size == 1:
            return
        if not self.sharded:
            places = [policy.device.index] if policy.device.type == "cuda" else None
            policy.wrapped = torch.nn.parallel.DistributedDataParallel(policy.module, device_ids=places, forward_sync_buffers=False)
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        from lab.policy import PromptAnswer

        mesh = init_device_mesh(policy.device.type, (self.world_size,))
        for block in _blocks(policy.model):
            fully_shard(block, mesh=mesh)
        policy.wrapped = fully_shard(policy.module, mesh=mesh)
        with torch.no_grad():  # FSDP takes the module of the first forward pass as its root
            policy.logps([PromptAnswer((policy.pad_id,), (policy.pad_id,))])
        policy.wrapped.reshard()  # the root stays unsharded after a pass, but the optimizer has to get the shards

    def set_gradient_sync(self, policy: Policy, enabled: bool) -> None:
        """Set whether the next backward pass synchronizes gradients; only that of a step's last micro-batch has to."""
        if self.world_size == 1:
            return
        if self.sharded:
            policy.wrapped.set_requires_gradient_sync(enabled)
        else:
            policy.wrapped.require_backward_grad_sync = enabled


ALONE = Workers()


def join(device: str) -> tuple[Workers, str]:
    """Join the process group if a launcher started several processes; return (workers, device of this process).

    `accelerate launch --use_fsdp` shards the weights (its other FSDP settings are not read); any other launch replicates them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE, device
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes))
    return Workers(state.process_index, state.num_processes, sharded, local_world_size), str(state.device)


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return `value` on the device of `parameter`, sharded as `parameter` is where they have the same shape."""
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None or value.shape != parameter.shape:
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements)  # type: ignore[attr-defined]


def _blocks(model: Any) -> list[nn.Module]:
    """Return the repeated layers of a model; each is sharded and gathered as a unit."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(getattr(base, "_no_split_modules", None) or ())
    return [module for module in base.modules() if type(module).__name__ in names]
