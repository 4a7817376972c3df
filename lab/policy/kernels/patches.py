"""Disable or remove the forward functions that `fused`, `last_layer` and `low_rank` have set on a model's modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from . import fused, last_layer, low_rank

OF_THE_MODEL = (fused._norm_forward, fused._gated_forward)
"""Functions on the model's own modules, also active while an adapter is switched off."""
FUSED = (*OF_THE_MODEL, low_rank._forward)
LAST_LAYER = (last_layer._forward,)
FORWARDS = (*FUSED, *LAST_LAYER)


def patched(model: nn.Module, forwards: Sequence[Any] | None = None) -> list[nn.Module]:
    """Return the modules whose forward function is one of `forwards` (by default any of `FORWARDS`)."""
    forwards = FORWARDS if forwards is None else forwards
    return [m for m in model.modules() if getattr(m.__dict__.get("forward"), "__func__", None) in forwards]


def restore_forwards(model: nn.Module, forwards: Sequence[Any] | None = None) -> int:
    """Restore the own forward function of modules as `patched` returns them; returns their number."""
    modules = patched(model, forwards)
    for module in modules:
        del module.__dict__["forward"]
    return len(modules)


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Use every module's own forward function inside the block."""
    kept = [(module, module.__dict__.pop("forward")) for module in patched(model)]
    try:
        yield
    finally:
        for module, forward in kept:
            module.__dict__["forward"] = forward
