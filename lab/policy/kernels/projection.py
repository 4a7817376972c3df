"""Log-probs after a linear output projection, with an explicit gradient that allocates no tensor of the vocabulary's width.

With z = scale h W', p = softmax(z), log p(y) = z_y - log sum exp z and g the gradient that arrives at log p(y):

    d / d h = g scale (W_y - p W)          d / d W = g scale (onehot_y - p)' h

Both use p in two matrix products only; autograd would make eight more passes over [tokens, vocabulary].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lab.policy.interruption import interruption_point


class LinearLogps(torch.autograd.Function):
    """Compute log softmax(scale * states W')[targets] and log sum p^2, both [N] float32; the second carries no gradient."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, scale: float, size: int, align: bool, keep: bool
    ) -> tuple[Tensor, Tensor]:
        """Compute both outputs in chunks.

        Args:
            ctx: Context of autograd.
            states: [N, H].
            weight: W, [V, H].
            targets: [N] token ids.
            scale: Of the logits.
            size: Tokens whose logits are held at a time.
            align: Whether to compute the second output; else it is empty.
            keep: Keep the probabilities for the backward pass if all tokens fit into one chunk; else they are recomputed.
        """
        kind = states.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        h, w = states.to(ctx.dtype), weight.to(ctx.dtype)
        keep &= len(targets) <= size
        picked, squares, kept = [], [], None
        for rows in _chunks(len(targets), size):
            interruption_point()
            logps = torch.log_softmax(_logits(h[rows], w, scale), -1, dtype=torch.float32)
            picked.append(logps.gather(-1, targets[rows, None]).squeeze(-1))
            if align:
                squares.append(torch.logsumexp(2 * logps, -1))
            if keep:
                kept = logps.exp_().to(ctx.dtype)
        ctx.save_for_backward(states, weight, targets, kept)
        ctx.scale, ctx.size = scale, size
        aligned = torch.cat(squares) if align else targets.new_zeros(0, dtype=torch.float32)
        ctx.mark_non_differentiable(aligned)
        return torch.cat(picked), aligned

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of states and weight."""
        states, weight, targets, kept = ctx.saved_tensors
        h, w = states.to(ctx.dtype), weight.to(ctx.dtype)  # autocast is off in a backward pass
        g = (gradients[0] * ctx.scale)[:, None]
        weighted = (g * h).to(ctx.dtype)
        needs_states, needs_weight = ctx.needs_input_grad[:2]
        to_states = torch.empty_like(h) if needs_states else None
        to_weight = torch.zeros_like(weight).index_add_(0, targets, weighted.to(weight.dtype)) if needs_weight else None
        for rows in _chunks(len(targets), ctx.size):
            interruption_point()
            p = kept
            if p is None:
                p = torch.softmax(_logits(h[rows], w, ctx.scale), -1, dtype=torch.float32).to(ctx.dtype)
            if to_states is not None:
                torch.mm(p, w, out=to_states[rows])
            if to_weight is not None and to_weight.dtype == p.dtype:
                to_weight.addmm_(p.T, weighted[rows], alpha=-1)
            elif to_weight is not None:
                to_weight -= p.T @ weighted[rows]
        if to_states is not None:
            to_states = ((w[targets] - to_states) * g).to(states.dtype)
        return to_states, to_weight, None, None, None, None, None


def _logits(states: Tensor, weight: Tensor, scale: float) -> Tensor:
    logits = states @ weight.T
    return logits if scale == 1.0 else logits * scale


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
