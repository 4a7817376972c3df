"""Find weights that no text reaches; compare a layout's gradients with the model's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from lab.policy.layout import PromptAnswer
from lab.policy.loading import ModelError
from lab.policy.policy import Policy
from lab.policy.sources.adapters import name_pattern

from .dropout import adapter_dropout_off, fresh_generators

SHARE, OF_ALL = 1e-2, 1e-4
"""Gradients of a weight agree if their norms differ by at most a share of the norm plus a share of the norm of all gradients.
Measured in float32: 1e-6 of the norm, 5e-4 where a model amplifies rounding."""
SHARE_HALF, OF_ALL_HALF = 0.2, 2e-2


@dataclass(frozen=True)
class Gradients:
    """Gradient norms of the sum of all log-probs of a few texts, in training mode without adapter dropout.

    norms:  Of every trained weight; None where it gets no gradient.
    called: Names of the modules that were called.
    """

    norms: dict[str, float | None]
    called: frozenset[str]

    def differs(self, own: Gradients, *, half: bool) -> str:
        """Return the name of the first weight whose gradient differs from the model's `own`, or ""."""
        share, of_all = (SHARE_HALF, OF_ALL_HALF) if half else (SHARE, OF_ALL)
        total = sum((norm or 0.0) ** 2 for norm in own.norms.values()) ** 0.5
        for name, expected in own.norms.items():
            norm = self.norms[name]
            tolerance = share * max(expected or 0.0, norm or 0.0) + of_all * total
            if not abs((norm or 0.0) - (expected or 0.0)) <= tolerance:
                return name
        return ""


def gradients(policy: Policy, texts: Sequence[PromptAnswer]) -> Gradients:
    """Compute gradients of a policy as training does; weights and their `.grad` do not change."""
    parameters = policy.parameters()
    called: set[str] = set()
    handles = [
        module.register_forward_pre_hook(lambda module, args, at=at: called.add(at)) for at, module in policy.model.named_modules()
    ]
    was_training = policy.model.training
    try:
        with torch.enable_grad(), adapter_dropout_off(policy.model), fresh_generators(0, policy.device):
            policy.model.train()
            logps = policy.logps(texts).logps
            if not logps.requires_grad:
                return Gradients(dict.fromkeys(parameters), frozenset(called))
            computed = torch.autograd.grad(logps.sum(), list(parameters.values()), allow_unused=True)
    finally:
        policy.model.train(was_training)
        for handle in handles:
            handle.remove()
    norms: dict[str, float | None] = {name: None if g is None else float(g.float().norm()) for name, g in zip(parameters, computed)}
    return Gradients(norms, frozenset(called))


def require_reached(name: str, own: Gradients, *, adapter: bool) -> tuple[str, ...]:
    """Return the parts with trained weights that are never computed (such as a vision tower), from the model's `own` gradients.

    A weight counts as reached if the weight of the same name in another layer or expert is.

    Raises:
        ModelError: Nothing is reached, adapters are never reached, a gradient is not finite, or a layer that is computed omits
            a part with weights of its own (the decoder of an encoder-decoder model without its encoder).
    """
    reached = _reached(own)
    if own.norms and not reached:
        raise ModelError(f"{name} cannot be trained: its log-probs reach none of the weights in training; give another model.")
    broken = [at for at, norm in own.norms.items() if norm is not None and not norm < float("inf")]
    if broken:
        raise ModelError(f"{name} cannot be trained: the gradient of {broken[0]} is not a number; give another model or precision.")
    never = _never(own)
    if never and adapter:
        raise ModelError(
            f"The adapter has {len(never)} weights that no text reaches ({_parts(never)[0]}), so they would never be trained; name "
            "the modules of the language model alone in lora_targets."
        )
    missed = left_out(own)
    if missed:
        raise ModelError(
            f"{name} has layers with parts that a text alone never reaches ({_parts(missed)[0]}), as the decoder of an "
            "encoder-decoder model has; give a causal language model."
        )
    return tuple(_parts(never))


def left_out(own: Gradients) -> list[str]:
    """Return the weights of parts that are never computed although their layer is."""
    return [at for at in _never(own) if _layer(at) in own.called]


def _reached(own: Gradients) -> set[str]:
    return {name_pattern(at) for at, norm in own.norms.items() if norm is not None}


def _never(own: Gradients) -> list[str]:
    """Names of weights that are not reached in any layer, and whose module is neither called nor has a weight that is reached."""
    reached = _reached(own)
    modules = own.called | {at.rpartition(".")[0] for at, norm in own.norms.items() if norm is not None}
    return [at for at in own.norms if name_pattern(at) not in reached and at.rpartition(".")[0] not in modules]


def _layer(name: str) -> str | None:
    """The module of the layer that a weight lies in; None outside of numbered layers."""
    match = re.match(r"(.*?\.\d+)\.", name)
    return match.group(1) if match else None


def _parts(names: Iterable[str]) -> list[str]:
    """The names of the modules, without numbers and in order."""
    return list(dict.fromkeys(name_pattern(name).rpartition(".")[0].replace(".*", "") for name in names))
