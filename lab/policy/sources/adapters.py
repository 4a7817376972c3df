"""A new LoRA adapter on a model: which layers get one, decided by what they are and whether text passes through them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lab.policy.checks.arbitrary_row import arbitrary_pass
from lab.policy.randomness import global_generator

from . import ModelError, model_errors

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter (arXiv 2106.09685): rank r, scale alpha / r, dropout on its input, module names or "all-linear"."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str = ALL_LINEAR


def add_adapter(model: Any, lora: Lora, seed: int) -> Any:
    """The model with a new adapter, as peft makes it. seed: of its first weights.

    "all-linear" is every linear layer that a text passes through: towers for images or sound and heads beside the language
    model's get none, since no gradient would reach it. Raises ModelError for names that no linear layer has.
    """
    from peft import LoraConfig, get_peft_model

    check_targets(model, lora.targets)
    everything = lora.targets.strip().lower() == ALL_LINEAR
    unused = unused_parts(model) if everything else []
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if everything else target_names(lora.targets),
        exclude_modules="|".join(re.escape(kind).replace(r"\*", r"\d+") for kind in unused) if unused else None,
        fan_in_fan_out=any(_transposed(module) for module in model.modules()),  # GPT-2 keeps its weights the other way round
        task_type="CAUSAL_LM",
    )
    remedy = "name modules in lora_targets in place of all-linear" if everything else "name other modules, or use all-linear"
    with model_errors("The adapter for this model", remedy), global_generator(seed):
        return get_peft_model(model, config)


def target_names(targets: str) -> list[str]:
    """The module names of `lora_targets`."""
    return [name for part in targets.split(",") if (name := part.strip())]


def check_targets(model: Any, targets: str) -> None:
    """Raises ModelError unless each name of `lora_targets` is that of linear layers, and of nothing else. Needs no weights."""
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
    """Kinds of the linear layers that a pass over text alone does not enter, as `name_pattern` writes them.

    A layer counts as entered where one of the same kind is: which experts a token is sent to depends on the token.
    """
    entered: set[nn.Module] = set()

    def enter(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):  # a router that is a subclass of Linear returns several things: no linear map
            entered.add(module)

    linear = {name: module for name, module in model.named_modules() if _linear(module)}
    hooks = [module.register_forward_hook(enter) for module in linear.values()]
    try:
        with model_errors("The model", "give another one; a pass over a few tokens failed"):
            arbitrary_pass(model)
    finally:
        for hook in hooks:
            hook.remove()
    kinds = {name_pattern(name) for name, module in linear.items() if module in entered}
    return sorted({name_pattern(name) for name in linear} - kinds)


def name_pattern(name: str) -> str:
    """The name of a module or weight with `*` for the numbers of its layer and expert."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def _linear(module: nn.Module) -> bool:
    """Whether a module is a linear map, as peft's all-linear counts them (those in 4 bits are subclasses)."""
    return isinstance(module, nn.Linear) or _transposed(module)


def _transposed(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
