"""Choose the attention kernel for shared prompts on a GPU by its measured speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from lab.policy.kernels.attention import KERNELS

from .layout import PromptAnswer
from .memory import out_of_memory
from .policy import Policy


def choose_kernel(
    policy: Policy, completions: Sequence[PromptAnswer], *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Set the policy's attention kernel for shared prompts on a GPU; `choose_layout` then checks it.

    FlashAttention ("varlen": half precision, no soft-capping) is taken without timing the others where it runs: it was the
    fastest on the card where all were timed (an H100, where SDPA over padded rows plans every new shape for 50 ms), and
    FlexAttention takes a quarter of a minute to compile. Otherwise SDPA ("padded") and FlexAttention ("flex") are timed,
    forward and backward. On the CPU nothing is done, because "grouped" is always fastest (measured).

    Args:
        policy: Its `shared` is set to the chosen kernel.
        completions: Some of the run's own.
        clock: Time in seconds.

    Returns:
        Seconds of every kernel that was tried and runs on this device.

    Raises:
        RuntimeError: Out of memory (or another error that says so); the policy's kernel is then unchanged.
    """
    seconds: dict[str, float] = {}
    previous = policy.shared
    if policy.device.type == "cpu" or previous is None:
        return seconds
    for kernel in ("varlen", "padded", "flex"):
        if "varlen" in seconds:
            break
        policy.shared = kernel
        try:
            # The first call compiles. Batches of a run differ in shape, and some kernels plan for each shape.
            for batch in (completions, completions[1:] or completions):
                _wait(policy.device)
                began = clock()
                parameters = list(policy.parameters().values())
                torch.autograd.grad(policy.logps(batch).logps.sum(), parameters, allow_unused=True)
                _wait(policy.device)
                seconds[kernel] = clock() - began
        except (RuntimeError, ImportError, AttributeError, TypeError, ValueError, IndexError) as error:
            if out_of_memory(error):
                policy.shared = previous
                raise
            seconds.pop(kernel, None)
    policy.shared = min(seconds, key=lambda k: seconds[k]) if seconds else "padded"
    return seconds


def restore_kernel(policy: Policy, metadata: Mapping[str, Any]) -> None:
    """Set the attention kernel that a checkpoint's metadata names, so that a resumed run computes the same bits.

    Does nothing on another kind of device, or where prompts are not shared.
    """
    if policy.shared is not None and metadata.get("kernel") in KERNELS and metadata.get("device") == policy.device.type:
        policy.shared = metadata["kernel"]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
