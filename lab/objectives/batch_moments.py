"""Mean and standard deviation of a number over a batch, on one process or on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Scalars: mean and std in float64, std unbiased (divided by count - 1; 0 for one value), count in int64."""

    mean: Tensor
    std: Tensor
    count: Tensor


def moments(values: Tensor, total: Callable[[Tensor], Tensor] | None = None) -> Moments:
    """Moments of `values` [B]; `total` adds a tensor up over processes (see `all_reduce_sum`), None for this process alone.

    Two passes, so that a large mean does not eat a small deviation, and no wait for the device.
    """
    total = total or (lambda partial: partial)
    wide = values.double()
    count, sum_ = total(torch.stack([torch.full_like(wide.sum(), values.numel()), wide.sum()]))
    mean = sum_ / count
    std = (total((wide - mean).square().sum()) / (count - 1).clamp(min=1)).sqrt()
    return Moments(mean, std, count.long())


def all_reduce_sum(partial: Tensor) -> Tensor:
    """Sum of `partial` over all processes where torch.distributed is initialised, else itself. All processes have to call it."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(partial)
    return partial
