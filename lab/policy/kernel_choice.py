"""Choosing the attention kernel for shared prompts on a GPU, by its speed."""

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
    """On a GPU: choose the kernel for shared prompts, which `choose_layout` then compares. Where FlashAttention runs ("varlen":
    half precision, no soft-capping) it is taken without timing the others, since it was the fastest on the card where all were
    timed (an H100: SDPA over padded rows plans every new shape for 50 ms) and FlexAttention takes a quarter of a minute to compile.
    Elsewhere SDPA ("padded") and FlexAttention ("flex") are timed, forward and backward, and the faster is taken.

    Returns seconds by kernel that was tried and runs here (FlexAttention needs a compiler). On the CPU the grouped one is always
    fastest (measured), and nothing is done. Raises what says that memory ran out, with the policy's kernel as it was.
    """
    seconds: dict[str, float] = {}
    before = policy.shared
    if policy.device.type == "cpu" or before is None:
        return seconds
    for kernel in ("varlen", "padded", "flex"):
        if "varlen" in seconds:
            break
        policy.shared = kernel
        try:
            # The first call compiles. Batches of a run all differ in shape, and some kernels plan each shape anew.
            for batch in (completions, completions[1:] or completions):
                _wait(policy.device)
                began = clock()
                parameters = list(policy.parameters().values())
                torch.autograd.grad(policy.logps(batch).logps.sum(), parameters, allow_unused=True)
                _wait(policy.device)
                seconds[kernel] = clock() - began
        except (RuntimeError, ImportError, AttributeError, TypeError, ValueError, IndexError) as error:
            if out_of_memory(error):
                policy.shared = before
                raise
            seconds.pop(kernel, None)
    policy.shared = min(seconds, key=lambda k: seconds[k]) if seconds else "padded"
    return seconds


def restore_kernel(policy: Policy, metadata: Mapping[str, Any]) -> None:
    """Leave the policy with the kernel that a run had before, as its checkpoint says: a clock may choose differently every time,
    and another kernel gives other last bits. Nothing happens on another kind of device, or where prompts are not shared."""
    if policy.shared is not None and metadata.get("kernel") in KERNELS and metadata.get("device") == policy.device.type:
        policy.shared = metadata["kernel"]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
