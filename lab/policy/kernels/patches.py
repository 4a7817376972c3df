"""What `fused` and `low_rank` have put into a model's own modules, switched off for a while or taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from . import fused, low_rank

OF_THE_MODEL = (fused._norm_forward, fused._gated_forward)
"""Those that stay while an adapter is switched off."""
FORWARDS = (*OF_THE_MODEL, low_rank._forward)


def patched(model: nn.Module, forwards: Sequence[Any] | None = None) -> list[nn.Module]:
    """The modules that compute with one of these operations (by default any)."""
    wanted = FORWARDS if forwards is None else forwards
    return [m for m in model.modules() if getattr(m.__dict__.get("forward"), "__func__", None) in wanted]


def restore_forwards(model: nn.Module) -> int:
    """Let every module compute as it is written; returns how many did not."""
    found = patched(model)
    for module in found:
        del module.__dict__["forward"]
    return len(found)


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Inside, every module computes as it is written."""
    kept = [(module, module.__dict__.pop("forward")) for module in patched(model)]
    try:
        yield
    finally:
        for module, forward in kept:
            module.__dict__["forward"] = forward
