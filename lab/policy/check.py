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
from .memory import out_of_memory
from .policy import Policy

TOLERANCE = 1e-2
"""Largest difference of a token log-prob (nats) that rounding explains; a missing scale or cap, a token seen that should not be,
gives far more. Under bf16 autocast rounding alone reaches ten times as much."""
FEW, MEAN = 1.0, 2e-2
"""Under bf16 autocast a few tokens may differ by more, up to the first, where the mean over tokens is no larger than the second.
With the world's model rounding gives 0.06 at most and 0.001 in the mean, and it grows with depth; what is wrong moves the mean,
or one token by far more."""


@dataclass(frozen=True)
class LayoutCheck:
    """What was found. difference: largest, in nats, of the layout that is used. reason: why not a faster one, or None."""

    layout: str
    difference: float
    reason: str | None = None


def choose_layout(policy: Policy, completions: Sequence[Completion], *, wanted: str = "auto") -> LayoutCheck:
    """Compare layouts with the model's own logits, row by row and with nothing fused, and leave the policy with the first that
    agrees: prompts computed once by the kernel that the policy has, or by a plainer one, else plain rows, else whole logits. Where
    even these differ, it is because of what is fused, which is taken out, and all is compared again.

    wanted: "auto" or "shared": as above. "plain": no shared prompts.
    """
    split, kernels, reason = policy.module.head, _kernels(policy, wanted), None
    if not kernels and wanted != "plain":
        reason = "the model is not written against transformers' attention interface"
    with policy.evaluating():
        with policy.as_loaded():
            own = policy.logps(completions)

        def compared() -> tuple[float, bool]:
            """The largest difference from the model's own log-probs, in nats, and whether rounding explains what there is."""
            apart = (policy.logps(completions).logps - own.logps).abs()[own.mask]
            largest = float(apart.max())
            if policy.autocast is None:
                return largest, largest <= TOLERANCE
            return largest, largest <= 10 * TOLERANCE or (largest <= FEW and float(apart.mean()) <= MEAN)

        while True:
            for kernel in kernels:
                policy.shared = kernel
                try:
                    found, agrees = compared()
                except (TypeError, ValueError, RuntimeError, IndexError) as error:
                    if out_of_memory(error):
                        raise
                    words = f"the model cannot take a row of shared prompts ({' '.join(str(error).split())[:200]})"
                else:
                    if agrees:
                        return LayoutCheck("shared", found, reason)
                    words = f"shared prompts would change its log-probs by {found:.3g} nats"
                reason = reason or (words if len(kernels) == 1 else f"{words}, with the kernel {kernel}")
            policy.plain_rows()
            plain, agrees = compared()
            if agrees:
                return LayoutCheck("plain", plain, reason)
            policy.module.head = whole_head(policy.model)
            whole, agrees = compared()
            if agrees or not policy.unfuse():
                return LayoutCheck("whole", whole, f"its logits are computed in a way of its own ({plain:.3g} nats apart)")
            policy.module.head = split
            if kernels:
                policy.share_prompts()
            reason = f"norms, gated units or adapters in one operation each would change its log-probs by {whole:.3g} nats"


def _kernels(policy: Policy, wanted: str) -> tuple[str, ...]:
    """The kernels for shared prompts that are compared, in order: the one that the policy has, and on a GPU the plainest."""
    if policy.shared is None or wanted == "plain":
        return ()
    others = () if policy.device.type == "cpu" else ("padded",)
    return tuple(dict.fromkeys((policy.shared, *others)))


def choose_kernel(
    policy: Policy, completions: Sequence[Completion], *, clock: Callable[[], float] = time.perf_counter
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


def keep_kernel(policy: Policy, facts: Mapping[str, Any]) -> None:
    """Leave the policy with the kernel that a run had before, as its checkpoint says: a clock may choose differently every time,
    and another kernel gives other last bits. Nothing happens on another kind of device, or where prompts are not shared."""
    if policy.shared is not None and facts.get("kernel") in KERNELS and facts.get("device") == policy.device.type:
        policy.shared = facts["kernel"]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
