"""Quantities of `PairLogps` that a formula can read, by the name used in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .pair_logps import PairLogps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Quantity:
    """One number per pair.

    symbol: As in the papers.
    of:     Computes it, [B], with gradient.
    exact:  True for counts, which are shown with all their digits.
    """

    symbol: str
    of: Callable[[PairLogps], Tensor]
    exact: bool = False


QUANTITIES: dict[str, Quantity] = {
    "log_x1": Quantity("log X₁", lambda p: p.X1),
    "log_x2": Quantity("log X₂", lambda p: p.X2),
    "h": Quantity("h", lambda p: p.h),
    "S_w": Quantity("log π(y_w)", lambda p: p.S_w),
    "S_l": Quantity("log π(y_l)", lambda p: p.S_l),
    "R_w": Quantity("log ref(y_w)", lambda p: p.R_w),
    "R_l": Quantity("log ref(y_l)", lambda p: p.R_l),
    "avg_w": Quantity("avg log π(y_w)", lambda p: p.avg_w),
    "avg_l": Quantity("avg log π(y_l)", lambda p: p.avg_l),
    "avg_ref_w": Quantity("avg log ref(y_w)", lambda p: p.R_w / p.n_w),
    "avg_ref_l": Quantity("avg log ref(y_l)", lambda p: p.R_l / p.n_l),
    "n_w": Quantity("n_w", lambda p: p.n_w.to(p.chosen), exact=True),
    "n_l": Quantity("n_l", lambda p: p.n_l.to(p.rejected), exact=True),
    "deg": Quantity("deg", lambda p: p.deg, exact=True),
}
"""Every quantity; log-probs and log-ratios are summed over an answer's tokens (nats), avg: per token (nats/token)."""
