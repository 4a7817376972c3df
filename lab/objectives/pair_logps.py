"""`PairLogps`, the input of every objective: token log-probabilities of a batch of pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lab.deferred import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Degraded:
    """K degraded answers of each pair, with the scores of SPO's degree head.

    head_logits: [B, K, N] scores of the N degrees; carry gradient to the head and the policy.
    degree:      [B, K] int64, the true degree k (0 = intact).
    present:     [B, K] bool, False where a pair has no such answer.
    log_ratio:   [B, K] log pi - log ref summed over the answer's tokens (nats), detached; None if not computed.
    """

    head_logits: Tensor
    degree: Tensor
    present: Tensor
    log_ratio: Tensor | None = None


_REMEDY = {
    "ref": "compute the log-probs of the reference first",
    "align": "compute log sum_v p(v)^2 of the policy at each position",
}


@dataclass(frozen=True)
class PairLogps:
    """Token log-probabilities (nats) of the completions of B pairs.

    chosen, rejected:           [B, T] float32 (or float64), the policy's; carry gradient; 0 where the mask is False.
    chosen_mask, rejected_mask: [B, T] bool, True on completion tokens, end-of-sequence included.
    ref_chosen, ref_rejected:   [B, T], the reference's; None where no reference was computed.
    align_chosen, align_rejected: [B, T] log sum_v p(v)^2 of the policy at each position; read by WPO only.
    degraded:                   the degraded answers of SPO; None where the objective needs none.
    pair_degree:                [B], how clearly the chosen answer is better, in (0, 1], and 0 where nobody said; None is 0 for all.

    Chosen and rejected may differ in T. Raises ValueError for a wrong shape or type.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_mask: Tensor
    rejected_mask: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    align_chosen: Tensor | None = None
    align_rejected: Tensor | None = None
    degraded: Degraded | None = None
    pair_degree: Tensor | None = None

    def __post_init__(self) -> None:
        for side in ("chosen", "rejected"):
            values, mask = getattr(self, side), getattr(self, f"{side}_mask")
            if values.ndim != 2:
                raise ValueError(f"{side} log-probs have shape {tuple(values.shape)}; give one row per pair: [B, T].")
            if values.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"{side} log-probs have type {values.dtype}; give float32, half precision is off by nats over a sentence."
                )
            if mask.dtype != torch.bool:
                raise ValueError(f"{side}_mask has type {mask.dtype}; give torch.bool.")
            for name in (f"{side}_mask", f"ref_{side}", f"align_{side}"):
                other = getattr(self, name)
                if other is not None and other.shape != values.shape:
                    raise ValueError(
                        f"{name} has shape {tuple(other.shape)} but {side} has {tuple(values.shape)}; "
                        "token values of the same completions must have the same shape."
                    )
        if self.chosen.shape[0] != self.rejected.shape[0]:
            raise ValueError(
                f"{self.chosen.shape[0]} chosen but {self.rejected.shape[0]} rejected rows; give one of each per pair."
            )
        if self.pair_degree is not None and self.pair_degree.shape != self.chosen.shape[:1]:
            raise ValueError(
                f"pair_degree has shape {tuple(self.pair_degree.shape)}; give one degree for each of {len(self)} pairs."
            )

    def __len__(self) -> int:
        return self.chosen.shape[0]

    # The papers' symbols, each of shape [B]. S: sum of policy log-probs, R: of the reference, n: tokens.
    # Masked positions are zeroed here too, so that a NaN or -inf in the padding cannot reach a sum.

    @cached_property
    def n_w(self) -> Tensor:
        """Completion tokens of the chosen answer, [B]."""
        return self.chosen_mask.sum(-1)

    @cached_property
    def n_l(self) -> Tensor:
        """Completion tokens of the rejected answer, [B]."""
        return self.rejected_mask.sum(-1)

    @cached_property
    def S_w(self) -> Tensor:
        """Log-prob of the chosen answer under the policy, log pi(y_w|x), [B] nats."""
        return masked_sum(self.chosen, self.chosen_mask)

    @cached_property
    def S_l(self) -> Tensor:
        """Log-prob of the rejected answer under the policy, log pi(y_l|x), [B] nats."""
        return masked_sum(self.rejected, self.rejected_mask)

    @cached_property
    def R_w(self) -> Tensor:
        """Log-prob of the chosen answer under the reference, log ref(y_w|x), [B] nats. Raises ValueError without one."""
        return masked_sum(self.required("ref_chosen"), self.chosen_mask)

    @cached_property
    def R_l(self) -> Tensor:
        """Log-prob of the rejected answer under the reference, log ref(y_l|x), [B] nats. Raises ValueError without one."""
        return masked_sum(self.required("ref_rejected"), self.rejected_mask)

    @cached_property
    def avg_w(self) -> Tensor:
        """Mean policy log-prob per token of the chosen answer, [B] nats/token."""
        return self.S_w / self.n_w

    @cached_property
    def avg_l(self) -> Tensor:
        """Mean policy log-prob per token of the rejected answer, [B] nats/token."""
        return self.S_l / self.n_l

    @cached_property
    def X1(self) -> Tensor:
        """Log-ratio of the chosen answer, log X1 = log pi(y_w|x) - log ref(y_w|x), [B] nats."""
        return masked_sum(self.ratio_chosen, self.chosen_mask)

    @cached_property
    def X2(self) -> Tensor:
        """Log-ratio of the rejected answer, log X2 = log pi(y_l|x) - log ref(y_l|x), [B] nats."""
        return masked_sum(self.ratio_rejected, self.rejected_mask)

    @cached_property
    def h(self) -> Tensor:
        """Difference of the log-ratios, h = log X1 - log X2, [B] nats."""
        return self.X1 - self.X2

    @cached_property
    def ratio_chosen(self) -> Tensor:
        """Token log-ratios log pi - log ref of the chosen answer, [B, T] nats."""
        return self.chosen - self.required("ref_chosen")

    @cached_property
    def ratio_rejected(self) -> Tensor:
        """Token log-ratios log pi - log ref of the rejected answer, [B, T] nats."""
        return self.rejected - self.required("ref_rejected")

    @property
    def deg(self) -> Tensor:
        """Annotated degree of every pair, [B] in [0, 1], 0 where nobody said."""
        return torch.zeros_like(self.chosen[:, 0]) if self.pair_degree is None else self.pair_degree.to(self.chosen)

    @property
    def has_reference(self) -> bool:
        """Whether log-probs of the reference are present."""
        return self.ref_chosen is not None and self.ref_rejected is not None

    def required(self, name: str) -> Tensor:
        """Return the optional tensor `name`, [B, T]. Raises ValueError where it is None."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ValueError(f"This objective needs {name}, which is missing; {_REMEDY[name.split('_')[0]]}.")
        return value

    def map(self, function: Callable[[Tensor], Tensor]) -> PairLogps:
        """Return a copy with every tensor replaced by function(tensor), for example a slice of the batch or a cast."""
        return replace(self, **{name: _map(value, function) for name, value in field_values(self).items()})


def field_values(value: Any) -> dict[str, Any]:
    """Return the fields of a data class by name, without copying and without its cached properties."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Degraded):
        return replace(value, **{name: _map(inner, function) for name, inner in field_values(value).items()})
    return value


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum `values` over the last axis where `mask` is True; [B, T] -> [B]."""
    return torch.where(mask, values, 0.0).sum(-1)
