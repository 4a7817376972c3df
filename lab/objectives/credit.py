"""Token credit: how hard an objective pushes every token of a batch, exact and for any objective.

The loss reaches the model only through the token log-probs, so the gradient with respect to those small
tensors is the whole story of the objective; the model's part is a second, separate backward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .base import Draws, Objective, Outcome, PairLogps, State, masked_sum


@dataclass(frozen=True)
class Credited:
    """An objective's outcome with the credit of every token.

    chosen, rejected: [B, T], -d loss_i / d log-prob of the token: positive pushes the token up, negative down.
        For objectives that couple the pairs it is -d sum(losses) / d log-prob.
    head: [B, K, N], d sum(losses) / d head logits (SPO), or None.
    `outcome.terms` has two more entries: weight_chosen, the mean credit of the chosen tokens, and weight_rejected, the
    mean of minus the credit of the rejected tokens; both are positive when the objective does what its name says.
    """

    outcome: Outcome
    state: State
    chosen: Tensor
    rejected: Tensor
    head: Tensor | None = None


def with_credit(objective: Objective, logps: PairLogps, state: State, draws: Draws, *, training: bool) -> Credited:
    """Call the objective on detached log-probs and differentiate it with respect to them.

    Same arguments and errors as the objective's own call. `outcome.losses` comes back detached.
    """
    leaves = logps.map(torch.Tensor.detach)
    chosen, rejected = leaves.chosen.requires_grad_(), leaves.rejected.requires_grad_()
    inputs = [chosen, rejected]
    if leaves.degraded is not None:
        inputs.append(leaves.degraded.head_logits.requires_grad_())
    with torch.enable_grad():
        outcome, after = objective(leaves, state, draws, training=training)
        gradients = torch.autograd.grad(outcome.losses.sum(), inputs, allow_unused=True, materialize_grads=True)
    credit_chosen, credit_rejected = -gradients[0], -gradients[1]
    terms = outcome.terms | {
        "weight_chosen": masked_sum(credit_chosen, leaves.chosen_mask) / leaves.n_w,
        "weight_rejected": -masked_sum(credit_rejected, leaves.rejected_mask) / leaves.n_l,
    }
    return Credited(
        outcome=replace(outcome, losses=outcome.losses.detach(), terms=terms),
        state=after,
        chosen=credit_chosen,
        rejected=credit_rejected,
        head=gradients[2] if len(gradients) > 2 else None,
    )
