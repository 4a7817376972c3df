"""Mean and standard deviation of per-pair values over a batch, of one process or of all processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.deferred import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation (float64 scalars; divided by count - 1, 0 for one value) and count (int64 scalar)."""

    mean: Tensor
    std: Tensor
    count: Tensor


def moments(values: Tensor, reduce: Callable[[Tensor], Tensor] | None = None) -> Moments:
    """Compute the moments of `values` [B] in two passes, without synchronising with the device.

    Args:
        values: One number per pair.
        reduce: Sums a tensor over processes (`all_reduce_sum`); None for the values of this process only.
    """
    total = reduce or (lambda partial: partial)
    wide = values.double()
    count, sum_ = total(torch.stack([torch.full_like(wide.sum(), values.numel()), wide.sum()]))
    mean = sum_ / count
    std = (total((wide - mean).square().sum()) / (count - 1).clamp(min=1)).sqrt()
    return Moments(mean, std, count.long())


def all_reduce_sum(partial: Tensor) -> Tensor:
    """Sum a tensor over all processes where torch.distributed is initialised (a collective call), else return it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(partial)
    return partial
