"""In which layout does this model give its own log-probs? Asked once before a run, on real completions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .attention import KERNELS
from .layout import Completion
from .logps import whole_head
from .policy import Policy

TOLERANCE = 1e-2
"""Largest difference of a token log-prob (nats) that rounding explains; a missing scale or cap, a token seen that should not be,
gives far more. Under bf16 autocast rounding alone reaches ten times as much."""


@dataclass(frozen=True)
class LayoutCheck:
    """What was found. difference: largest, in nats, of the layout that is used. reason: why not a faster one, or None."""

    layout: str
    difference: float
    reason: str | None = None


def choose_layout(policy: Policy, completions: Sequence[Completion], *, wanted: str = "auto") -> LayoutCheck:
    """Compare layouts with the model's own logits, row by row, and leave the policy with the fastest that agrees.

    wanted: "auto" or "shared": prompts computed once, else plain rows, else whole logits. "plain": no shared prompts.
    """
    tolerance = TOLERANCE if policy.autocast is None else 10 * TOLERANCE
    split, kernel = policy.module.head, policy.shared
    with policy.evaluating():
        policy.shared, policy.module.head = None, whole_head(policy.model)
        expected = policy.logps(completions).logps
        policy.module.head = split
        reason = None
        if wanted != "plain" and kernel is not None:
            policy.shared = kernel
            try:
                difference = float((policy.logps(completions).logps - expected).abs().max())
            except (TypeError, ValueError, RuntimeError, IndexError) as error:
                if "out of memory" in str(error):
                    raise
                reason = f"the model cannot take a row of shared prompts ({' '.join(str(error).split())[:200]})"
            else:
                if difference <= tolerance:
                    return LayoutCheck("shared", difference)
                reason = f"shared prompts would change its log-probs by {difference:.3g} nats"
        elif wanted != "plain":
            reason = "the model is not written against transformers' attention interface"
        policy.plain_rows()
        difference = float((policy.logps(completions).logps - expected).abs().max())
        if difference <= tolerance:
            return LayoutCheck("plain", difference, reason)
        policy.module.head = whole_head(policy.model)
        return LayoutCheck("whole", difference, f"its logits are computed in a way of its own ({difference:.3g} nats apart)")


def choose_kernel(
    policy: Policy, completions: Sequence[Completion], *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """On a GPU: time the kernels for shared prompts, forward and backward, and leave the policy with the fastest. "varlen"
    was the fastest wherever it ran, so where it does nothing else is timed.

    Returns seconds by kernel; a kernel that does not run here (FlexAttention needs a compiler) is left out. On the CPU the grouped
    one is always fastest (measured), and nothing is done.
    """
    seconds: dict[str, float] = {}
    if policy.device.type == "cpu" or policy.shared is None:
        return seconds
    for kernel in ("varlen", "padded", "flex"):
        if "varlen" in seconds:
            break  # the others take a quarter of a minute to compile, or plan each shape anew
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
        except (RuntimeError, ImportError, AttributeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            seconds.pop(kernel, None)
    policy.shared = min(seconds, key=lambda k: seconds[k]) if seconds else "padded"
    return seconds


def keep_kernel(policy: Policy, facts: Mapping[str, Any]) -> None:
    """Leave the policy with the kernel that a run had before, as its checkpoint says: a clock may choose differently every time,
    and another kernel gives other last bits. Nothing happens on another kind of device, or where prompts are not shared."""
    if policy.shared is not None and facts.get("kernel") in KERNELS and facts.get("device") == policy.device.type:
        policy.shared = facts["kernel"]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
