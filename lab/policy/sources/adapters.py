"""Add a new LoRA adapter to the linear layers of a model that text passes through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lab.policy.checks.arbitrary_row import arbitrary_pass
from lab.policy.randomness import global_generator

from .model_error import ModelError, model_errors

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Lora:
    """Settings of a low-rank adapter (arXiv 2106.09685).

    rank:    r.
    alpha:   The adapter is scaled by alpha / r.
    dropout: Rate of dropout on the adapter's input.
    targets: Comma-separated module names, or "all-linear".
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str = ALL_LINEAR


def add_adapter(model: Any, lora: Lora, seed: int) -> Any:
    """Return the model with a new peft adapter.

    "all-linear" means every linear layer that text passes through: image and audio towers and additional heads get no adapter,
    because no gradient would reach it.

    Args:
        model: A transformers model.
        lora: Settings of the adapter.
        seed: Of its initial weights.

    Raises:
        ModelError: A target is not the name of a linear layer.
    """
    from peft import LoraConfig, get_peft_model

    check_targets(model, lora.targets)
    everything = lora.targets.strip().lower() == ALL_LINEAR
    unused = unused_parts(model) if everything else []
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft declares int and divides it by the rank
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if everything else target_names(lora.targets),
        exclude_modules="|".join(re.escape(kind).replace(r"\*", r"\d+") for kind in unused) if unused else None,
        fan_in_fan_out=any(_transposed(module) for module in model.modules()),  # GPT-2 stores its weights transposed
        task_type="CAUSAL_LM",
    )
    remedy = "name modules in lora_targets in place of all-linear" if everything else "name other modules, or use all-linear"
    with model_errors("The adapter for this model", remedy), global_generator(seed):
        return get_peft_model(model, config)


def target_names(targets: str) -> list[str]:
    """Return the module names of `lora_targets`."""
    return [name for part in targets.split(",") if (name := part.strip())]


def check_targets(model: Any, targets: str) -> None:
    """Raise ModelError unless each name of `lora_targets` is the name of linear layers only; needs no weights."""
    names = target_names(targets)
    if not names:
        raise ModelError("lora_targets is empty, so no layer would get an adapter; use all-linear, or name modules of the model.")
    if targets.strip().lower() == ALL_LINEAR:
        return
    modules = dict(model.named_modules())
    linear = sorted({name.rsplit(".", 1)[-1] for name, module in modules.items() if _linear(module)})
    for name in names:
        matches = {path: module for path, module in modules.items() if path == name or path.endswith(f".{name}")}
        choose = f"choose from {', '.join(linear)}, or use all-linear."
        if not matches:
            raise ModelError(f"lora_targets names {name!r}, and this model has no module of that name; {choose}")
        other = next((module for module in matches.values() if not _linear(module)), None)
        if other is not None:
            raise ModelError(
                f"lora_targets names {name!r}, which is no linear layer but {_article(type(other).__name__)}, and the lab trains "
                f"adapters on linear layers only; {choose}"
            )


def unused_parts(model: Any) -> list[str]:
    """Return the name patterns (see `name_pattern`) of the linear layers that a forward pass of text does not call.

    A layer counts as called if one of the same pattern is, because the experts that are called depend on the token.
    """
    called: set[nn.Module] = set()

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):  # a router that is a subclass of Linear returns a tuple and is no linear layer
            called.add(module)

    linear = {name: module for name, module in model.named_modules() if _linear(module)}
    hooks = [module.register_forward_hook(record) for module in linear.values()]
    try:
        with model_errors("The model", "give another one; a pass over a few tokens failed"):
            arbitrary_pass(model)
    finally:
        for hook in hooks:
            hook.remove()
    patterns = {name_pattern(name) for name, module in linear.items() if module in called}
    return sorted({name_pattern(name) for name in linear} - patterns)


def name_pattern(name: str) -> str:
    """Return the name of a module or weight with `*` in place of the numbers of its layer and expert."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def _linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer for peft's all-linear; 4-bit layers are subclasses."""
    return isinstance(module, nn.Linear) or _transposed(module)


def _transposed(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
