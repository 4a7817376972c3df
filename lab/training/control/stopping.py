"""Stopping in the middle of long work: a step, a reference pass, an evaluation, the measuring before a run, loading a model.

The training thread asks `StopCheck` at many points: between the layers of every forward and backward pass (by hooks on the
model's blocks), between chunks of logits, between batches, before the optimizer step, and while a model is loaded. What is broken
off leaves nothing behind: weights and optimizer change only in the optimizer step, which is never interrupted, so a resumed run is
exact from the last step that was completed. Several processes that train together stop at the end of a step.
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

Result = TypeVar("Result")

INTERVAL = 0.05
"""Seconds between two looks for a request; what is asked in between costs a clock reading."""


class Stopped(BaseException):
    """The run is to stop. No Exception: code that falls back to another way when something fails must not catch it.

    reason: why, in one sentence, where the run stops by itself; None where a person asked for it.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or "a stop was requested")
        self.reason = reason


def no_reason() -> str | None:
    """Never a reason to stop by itself."""
    return None


class StopCheck:
    """Call it to raise `Stopped` where the run in `folder` is to stop; cheap enough for every layer of every pass.

    reason: why the run has to stop by itself (see `memory_guard`), or None.
    enabled: False where several processes train together, which can only stop between two steps, all at once.
    noticed: called once, just before the first `Stopped` is raised.
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
        self._thread: int | None = None  # the one that may be interrupted at this moment
        self._next = 0.0

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Inside, this thread may be interrupted wherever the check is called; elsewhere the check does nothing."""
        before = self._thread
        self._thread = threading.get_ident() if self.enabled else None
        try:
            with interruptible(self):
                yield
        finally:
            self._thread = before

    def __call__(self) -> None:
        """Raise `Stopped` if the run is to stop."""
        if self._thread != threading.get_ident() or (now := time.monotonic()) < self._next:
            return
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return  # a recorded pass is not broken off; it takes milliseconds
        self._next = now + INTERVAL
        reason = self.reason()
        if reason is not None or pending(self.folder, "stop"):
            self._next = 0.0  # once more at the next call, should somebody have swallowed it
            self.noticed()
            raise Stopped(reason)

    def watch(self, model: nn.Module) -> None:
        """Check before and after each block of a model, forward and backward."""
        if self.enabled:
            for block in blocks(model):
                block.register_forward_pre_hook(self._before_block)
                block.register_forward_hook(self._after_block)

    def wait_for(self, work: Callable[[], Result]) -> Result:
        """work(), computed in a side thread that is abandoned when the run is to stop: for what has no place for a check."""
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
        # A GPU's backward pass runs in a thread of its own, ahead of what the GPU computes; nothing is gained by checks there.
        if isinstance(tensor, Tensor) and tensor.requires_grad and not tensor.is_cuda and self._thread is not None:
            tensor.register_hook(self._in_backward)

    def _in_backward(self, gradient: Tensor) -> None:
        self()

    def __deepcopy__(self, memo: Any) -> StopCheck:
        return self  # a copied model is interrupted with the run, too


def blocks(model: nn.Module) -> list[nn.Module]:
    """The members of a model's outermost lists of modules: its layers. Its direct parts where it has no such list."""
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1
    ]
    outermost = [module for name, module in lists if not any(name.startswith(f"{other}.") for other, _ in lists if other != name)]
    return [block for module in outermost for block in module.children()] or list(model.children())
