"""Token credit: the gradient of an objective with respect to the log-prob of every token, exact for any objective.

The loss depends on the model only through the token log-probs. So the objective is differentiated on these small tensors,
and the model's own backward pass starts from the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.deferred import torch

from .base import Draws, Objective, Outcome, PairLogps, State, masked_sum

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Credited:
    """An objective's outcome with the credit of every token.

    chosen, rejected: [B, T], -d loss_i / d log-prob of the token (-d sum(losses) where the objective couples the pairs of a
        batch), times the pair's weight: a gradient step raises the log-prob of a token with positive credit and lowers one with
        negative credit.
    head: [B, K, N], d sum(losses) / d head logits (SPO), times the pair's weight, or None.
    state: The objective's state after the call.

    `outcome.terms` has two additional entries [B]: weight_chosen, the mean credit of the chosen tokens, and weight_rejected, minus
    the mean credit of the rejected tokens; both are positive where the chosen answer is raised and the rejected one lowered.
    """

    outcome: Outcome
    state: State
    chosen: Tensor
    rejected: Tensor
    head: Tensor | None = None


def with_credit(
    objective: Objective, logps: PairLogps, state: State, draws: Draws, *, training: bool, weights: Tensor | None = None
) -> Credited:
    """Call an objective on detached log-probs and differentiate its losses with respect to them.

    Arguments and errors are those of the objective's own call, except `weights` [B], the weight of every pair: credit is that of
    weight times loss, so a pair of weight 2 counts as two pairs and one of weight 0 trains nothing (OURS). Losses, terms and the
    statistics in the state stay unweighted. None is 1 for every pair. `outcome.losses` is returned detached.
    """
    leaves = logps.map(torch.Tensor.detach)
    chosen, rejected = leaves.chosen.requires_grad_(), leaves.rejected.requires_grad_()
    inputs = [chosen, rejected]
    if leaves.degraded is not None:
        inputs.append(leaves.degraded.head_logits.requires_grad_())
    with torch.enable_grad():
        outcome, after = objective(leaves, state, draws, training=training)
        losses = outcome.losses if weights is None else outcome.losses * weights.to(outcome.losses)
        gradients = torch.autograd.grad(losses.sum(), inputs, allow_unused=True, materialize_grads=True)
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
