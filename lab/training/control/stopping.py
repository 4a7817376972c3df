"""Stopping within long work: a step, a reference pass, an evaluation, the preflight measurements, loading a model.

The training thread calls `StopCheck` between the layers of every forward and backward pass (by hooks on the model's blocks),
between chunks of logits, between batches, before the optimizer step, and while a model is loaded. Interrupted work leaves no trace:
weights and optimizer change only in the optimizer step, which is never interrupted, so a resumed run is exact from the last
completed step. Several processes that train together stop at the end of a step.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lab.policy.interruption import interruptible
from lab.run import pending

from .stopped import Stopped

Result = TypeVar("Result")

INTERVAL = 0.05
"""Seconds between two readings of the requests; a check in between only reads the clock."""


def no_reason() -> str | None:
    """Return None: there is no reason to stop besides a request."""
    return None


class StopCheck:
    """Raises `Stopped` when called after a stop was requested; cheap enough for every layer of every pass.

    Args:
        folder: Folder of the run.
        reason: Returns why the run has to stop by itself (see `memory_guard`), or None.
        enabled: False where several processes train together, which can only stop between two steps.
        noticed: Called just before `Stopped` is raised.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reason: Callable[[], str | None] = no_reason,
        enabled: bool = True,
        noticed: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.reason, self.enabled, self.noticed = folder, reason, enabled, noticed
        self._thread: int | None = None  # the thread that may be interrupted
        self._next = 0.0

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Enable the check for this thread inside a `with` block; outside, calling the check does nothing."""
        before = self._thread
        self._thread = threading.get_ident() if self.enabled else None
        try:
            with interruptible(self):
                yield
        finally:
            self._thread = before

    def __call__(self) -> None:
        """Raise `Stopped` if a stop was requested or there is a reason to stop."""
        if self._thread != threading.get_ident() or (now := time.monotonic()) < self._next:
            return
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return  # capturing a CUDA graph cannot be interrupted; it takes milliseconds
        self._next = now + INTERVAL
        reason = self.reason()
        if reason is not None or pending(self.folder, "stop"):
            self._next = 0.0  # raise again at the next call, in case a library swallowed this one
            self.noticed()
            raise Stopped(reason)

    def watch(self, model: nn.Module) -> None:
        """Call the check before and after each block of a model, in forward and backward passes."""
        if self.enabled:
            for block in blocks(model):
                block.register_forward_pre_hook(self._before_block)
                block.register_forward_hook(self._after_block)

    def wait_for(self, work: Callable[[], Result]) -> Result:
        """Return work(), computed in a side thread that a stop abandons; for work that cannot call the check (loading a model)."""
        if self._thread != threading.get_ident():
            return work()
        results: list[Result] = []
        errors: list[BaseException] = []

        def compute() -> None:
            try:
                results.append(work())
            except BaseException as error:
                errors.append(error)

        side = threading.Thread(target=compute, name=f"loading-{self.folder.name}", daemon=True)
        side.start()
        while side.is_alive():
            side.join(INTERVAL)
            self()
        if errors:
            raise errors[0]
        return results[0]

    def _before_block(self, module: nn.Module, inputs: Any) -> None:
        self()

    def _after_block(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self()
        tensor = output[0] if isinstance(output, (tuple, list)) and output else output
        # On a GPU, backward runs in another thread and far ahead of the computation, so checks would gain nothing.
        if isinstance(tensor, Tensor) and tensor.requires_grad and not tensor.is_cuda and self._thread is not None:
            tensor.register_hook(self._in_backward)

    def _in_backward(self, gradient: Tensor) -> None:
        self()

    def __deepcopy__(self, memo: Any) -> StopCheck:
        return self  # a copied model is interrupted with the run too


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model: the members of its outermost module lists, or its children where it has none."""
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1
    ]
    outermost = [module for name, module in lists if not any(name.startswith(f"{other}.") for other, _ in lists if other != name)]
    return [block for module in outermost for block in module.children()] or list(model.children())
