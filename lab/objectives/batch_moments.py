"""Mean and standard deviation of per-pair values over a batch."""

from __future__ import annotations

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


def moments(values: Tensor) -> Moments:
    """Compute the moments of `values` [B] in two passes, without synchronising with the device.

    Nothing is summed over processes: every process calls an objective with the whole batch (see `lab.training.distributed`).
    """
    wide = values.double()
    count = torch.full_like(wide.sum(), values.numel())
    mean = wide.sum() / count
    std = ((wide - mean).square().sum() / (count - 1).clamp(min=1)).sqrt()
    return Moments(mean, std, count.long())
