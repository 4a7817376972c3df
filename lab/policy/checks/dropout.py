"""Switch off everything random in a model's training passes, and find modules that still draw random numbers."""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lab.policy.randomness import global_generator

from .arbitrary_row import arbitrary_pass

MARKS = ("drop", "jitter", "noise")
"""Parts of the names of rates: attention_dropout, layerdrop, drop_path_rate, resid_pdrop, router_jitter_noise, moe_jitter_eps."""
RATES = ("p", "prob", "rate", "std", "sigma", "scale")
"""Names of rates in a class whose own name has such a part, as in `DropPath.rate`."""
TOKENS = 256
"""Tokens with which a rate is distinguished from a number that evaluation uses, such as a threshold between similar experts."""


def switch_dropout_off(model: nn.Module) -> None:
    """Set every rate of dropout, skipped layers and noise to 0, in modules and configurations, whatever its name.

    With dropout, policy and reference would differ before the first step, and log-probs would be random. A number that also changes
    the model's output in evaluation is not such a rate and keeps its value (Phimoe's router_jitter_noise is also a threshold).
    """
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    owners = [*model.modules(), *_configs(getattr(model, "config", None))]
    rates = [(owner, name, value) for owner in owners for name, value in _rates(owner)]
    if not rates:
        return
    expected = _evaluated(model)
    for owner, name, value in rates:
        _set(owner, name, type(value)(0))
    if _same(expected, _evaluated(model)):
        return
    for owner, name, value in rates:
        _set(owner, name, value)
    for name in sorted({name for _, name, _ in rates}):
        for owner, other, value in rates:
            if other == name:
                _set(owner, name, type(value)(0))
        if not _same(expected, _evaluated(model)):
            for owner, other, value in rates:
                if other == name:
                    _set(owner, name, value)


def _rates(owner: Any) -> Iterator[tuple[str, float]]:
    """Name and value of each number of a module or configuration whose name marks it as a rate."""
    attributes = owner if isinstance(owner, dict) else vars(owner)
    marked = isinstance(owner, nn.Module) and any(mark in type(owner).__name__.lower() for mark in MARKS)
    for name, value in list(attributes.items()):
        if not isinstance(name, str):
            continue
        rate = any(mark in name.lower() for mark in MARKS) or (marked and name in RATES)
        if rate and type(value) is float and value != 0.0:
            yield name, value


def _configs(config: Any) -> list[Any]:
    """A configuration and the configurations inside it (text_config, attn_config, dictionaries)."""
    if config is None:
        return []
    inner = config.values() if isinstance(config, dict) else vars(config).values()
    nested = [value for value in inner if isinstance(value, dict) or hasattr(value, "to_dict")]
    return [config, *(inner for value in nested for inner in _configs(value))]


def _set(owner: Any, name: str, value: float) -> None:
    if isinstance(owner, dict):
        owner[name] = value
        return
    with contextlib.suppress(Exception):  # a configuration may refuse the value; a later check finds what is still random
        setattr(owner, name, value)


def _evaluated(model: nn.Module) -> Tensor | None:
    """Logits of arbitrary tokens in evaluation mode; None where they cannot be computed, which a later check reports."""
    try:
        with global_generator(0):
            return arbitrary_pass(model, TOKENS).logits
    except Exception:  # a model can raise any error
        return None


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is None or b is None or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@contextlib.contextmanager
def adapter_dropout_off(model: nn.Module) -> Iterator[None]:
    """Switch off the adapter's dropout inside the block."""
    drops = [part for layer in model.modules() for part in _adapter_dropout(layer)]
    rates = [part.p for part in drops]
    for part in drops:
        part.p = 0.0
    try:
        yield
    finally:
        for part, rate in zip(drops, rates):
            part.p = rate


def _adapter_dropout(layer: nn.Module) -> list[_DropoutNd]:
    owned = getattr(layer, "lora_dropout", None)
    return [part for part in owned.modules() if isinstance(part, _DropoutNd)] if isinstance(owned, nn.Module) else []


@contextlib.contextmanager
def fresh_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, Python and NumPy inside the block and restore them afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with global_generator(seed, [device] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def generator_states(device: torch.device) -> tuple[bytes, ...]:
    """Return the states of all global generators that a model may draw from."""
    states = [torch.get_rng_state().numpy().tobytes(), pickle.dumps((random.getstate(), np.random.get_state()))]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def drawing_modules(model: nn.Module, device: torch.device, compute: Callable[[], Any]) -> list[str]:
    """Return the innermost modules that draw random numbers in their forward pass, as "name (class)"."""
    names: list[str] = []
    open_calls: list[list[Any]] = []  # generator state at the beginning, whether a module inside has drawn
    handles = []

    def begin(module: nn.Module, args: Any) -> None:
        open_calls.append([generator_states(device), False])

    def end(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            state, inside = open_calls.pop()
            drew = generator_states(device) != state
            label = f"{name or 'the model'} ({type(module).__name__})"
            if drew and not inside and label not in names:
                names.append(label)
            if drew and open_calls:
                open_calls[-1][1] = True

        return hook

    for name, module in model.named_modules():
        # A call may end early, where only its keys and values are needed.
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end(name), always_call=True)]
    try:
        with fresh_generators(0, device):
            compute()
    finally:
        for handle in handles:
            handle.remove()
    return names
