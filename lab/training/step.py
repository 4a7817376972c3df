"""The gradient of one optimizer step: pairs to token log-probs, log-probs to credit, credit to parameters.

Backward runs in two pieces. The first, from loss to log-probs, is small and gives every token's credit; the second continues
from that credit through the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lab.objectives import Credited, Degraded, Draws, Objective, PairLogps, State, with_credit
from lab.policy import CompletionLogps, Policy, PromptAnswer, answer_mask
from lab.policy.kernels.device_copy import copy_to_device
from lab.policy.randomness import global_generator
from lab.training.data.encoded_pairs import DegradedAnswer, EncodedPair

from .distributed import ALONE, Workers

DROPOUT_SEED_STRIDE = 2**26
"""Distance between the dropout seeds of two micro-batches: more than there are steps (see `random_streams.generator`)."""

Reference = Callable[[PromptAnswer], np.ndarray | None]
"""Returns the token log-probs of a completion under the reference, float32 [T], or None without a reference."""

Probe = Callable[[Sequence[Tensor], Sequence[Tensor]], None]
"""Receives a micro-batch's outputs (log-probs of the chosen and of the rejected answers, with SPO also the degree head's logits),
and the gradient of the batch's mean loss with respect to each. It must retain the graph."""


@dataclass(frozen=True)
class StepResult:
    """Losses and credit of a step; its gradient (of the weighted mean loss over the batch) is in the parameters' `.grad`.

    Attributes:
        credited: The objective's outcome, its next state, and the credit of every token.
        logps: Token log-probs of the whole batch, detached.
        draws: What the objective drew at random.
    """

    credited: Credited
    logps: PairLogps
    draws: Draws


def pair_logps(
    policy: Policy,
    objective: Objective,
    pairs: Sequence[EncodedPair],
    reference: Reference | None,
    degree_head: nn.Module | None = None,
) -> PairLogps:
    """Return the token log-probs of B pairs, with the reference, token alignment and degraded answers that the objective needs.

    Args:
        policy: The model; log-probs carry its gradient where gradients are enabled.
        objective: Decides whether alignment and degraded answers are computed.
        pairs: The batch.
        reference: Looks up reference log-probs; None leaves them out.
        degree_head: SPO's head; without it degraded answers are not scored.
    """
    count = len(pairs)
    degraded_spec = objective.degraded_spec()
    degraded = (
        [(row, slot, answer) for row, pair in enumerate(pairs) for slot, answer in enumerate(pair.degraded)]
        if degraded_spec
        else []
    )
    completions = [p.chosen for p in pairs] + [p.rejected for p in pairs] + [answer.completion for _, _, answer in degraded]
    pooling = degraded_spec.pooling if degraded_spec and degraded else None
    logps = policy.logps(completions, align=objective.needs_alignment, pooling=pooling)
    sides = {"chosen": slice(0, count), "rejected": slice(count, 2 * count)}
    ref: dict[str, Tensor | None] = {"chosen": None, "rejected": None}
    if reference is not None:
        for side, rows in sides.items():
            ref[side] = _stack([reference(c) for c in completions[rows]], logps.logps[rows])
    degraded_logits = None
    if degraded_spec and degree_head is not None:
        degraded_logits = _degraded(count, degraded_spec.degrees, degraded, logps, degree_head, reference)
    align = {side: None if logps.align is None else logps.align[rows] for side, rows in sides.items()}
    return PairLogps(
        chosen=logps.logps[sides["chosen"]],
        rejected=logps.logps[sides["rejected"]],
        chosen_mask=logps.mask[sides["chosen"]],
        rejected_mask=logps.mask[sides["rejected"]],
        ref_chosen=ref["chosen"],
        ref_rejected=ref["rejected"],
        align_chosen=align["chosen"],
        align_rejected=align["rejected"],
        degraded=degraded_logits,
        pair_degree=torch.tensor([pair.degree or 0.0 for pair in pairs], device=policy.device) if objective.uses_degree else None,
    )


def accumulate(
    policy: Policy,
    objective: Objective,
    pairs: Sequence[EncodedPair],
    state: State,
    rng: torch.Generator,
    *,
    reference: Reference | None,
    degree_head: nn.Module | None = None,
    micro_batch_size: int | None = None,
    probe: Probe | None = None,
    workers: Workers = ALONE,
    dropout_seed: int | None = None,
    training: bool = True,
) -> StepResult:
    """Add the gradient of the mean over `pairs` of weight times loss to the parameters' `.grad` (see `lab.pairs.Pair.weight`).

    With micro-batches the result equals that of the whole batch for every objective, except that adapter dropout is drawn for each
    micro-batch. Where a pair's loss depends on that pair and its draws alone, each micro-batch goes forward and backward once.
    Otherwise (pairs that depend on each other, draws that need log-probs, a state) the log-probs of all micro-batches are computed
    first without a graph, the objective is called on the whole batch, and each micro-batch is computed again to backpropagate its
    credit: one more forward pass.

    Args:
        policy: The model in training.
        objective: The objective.
        pairs: The whole batch; each of several processes computes its share.
        state: The objective's state before the step.
        rng: Generator of the objective's draws.
        reference: Looks up reference log-probs, or None.
        degree_head: SPO's head, or None.
        micro_batch_size: Pairs per forward pass; None for the whole share.
        probe: Called for every micro-batch before its backward pass (see `Probe`).
        workers: The processes that train together.
        dropout_seed: Makes adapter dropout equal in both passes of a micro-batch, and different between processes.
        training: False lets the objective use the statistics in its state, as an evaluation does, and not those of this batch.
    """
    count = len(pairs)
    own = workers.share(count)
    size = micro_batch_size or count
    starts = range(own.start, own.stop, size)
    micro_batches = [pairs[start : min(start + size, own.stop)] for start in starts]
    last = len(micro_batches) - 1
    weights = _weights(pairs, policy.device)

    def forward(number: int) -> PairLogps:
        seeded: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if dropout_seed is not None:  # dropout can only use the global generator
            devices = [policy.device] if policy.device.type == "cuda" else []
            stream = number * workers.world_size + workers.rank
            seeded = global_generator(dropout_seed + DROPOUT_SEED_STRIDE * stream, devices)
        with seeded:
            return pair_logps(policy, objective, micro_batches[number], reference, degree_head)

    def credit(logps: PairLogps, draws: Draws, first: int = 0) -> Credited:
        own_weights = None if weights is None else weights[first : first + len(logps)]
        return with_credit(objective, logps, state, draws, training=training, weights=own_weights)

    def backward(logps: PairLogps, credited: Credited, start: int) -> None:
        outputs, gradients = _outputs_and_gradients(logps, credited, start, workers.world_size / count)
        if probe is not None:
            probe(outputs, gradients)
        torch.autograd.backward(outputs, gradients)

    computed: list[PairLogps] = []
    if last == 0:
        logps = forward(0)
        whole = concatenate(workers.gather(logps.map(Tensor.detach)))
        draws = objective.draw(whole, rng)
        credited = credit(whole, draws)
        backward(logps, credited, own.start)
    elif has_independent_pairs(objective, state):
        draws = objective.draw(_masks_alone(pairs, policy.device), rng)
        for number, start in enumerate(starts):
            workers.set_gradient_sync(policy, number == last)
            logps = forward(number)
            computed.append(logps.map(Tensor.detach))
            backward(logps, credit(computed[-1], _draws_of(draws, start, computed[-1]), start), 0)
            del logps  # free its graph before the next forward pass
        whole = concatenate(workers.gather(concatenate(computed)))
        draws = _draws_of(draws, 0, whole)
        credited = credit(whole, draws)
    else:
        with torch.no_grad():
            computed = [forward(number) for number in range(len(micro_batches))]
        whole = concatenate(workers.gather(concatenate(computed)))
        draws = objective.draw(whole, rng)
        credited = credit(whole, draws)
        for number, start in enumerate(starts):
            workers.set_gradient_sync(policy, number == last)
            backward(forward(number), credited, start)
    if degree_head is not None:
        workers.average(p.grad for p in degree_head.parameters())
    return StepResult(credited, whole, draws)


def _weights(pairs: Sequence[EncodedPair], device: torch.device) -> Tensor | None:
    """Return the weights of B pairs, float32 [B], or None where all are 1."""
    weights = [pair.weight for pair in pairs]
    return None if all(weight == 1 for weight in weights) else torch.tensor(weights, device=device)


def has_independent_pairs(objective: Objective, state: State) -> bool:
    """Return whether a pair's loss and credit depend on that pair alone, given draws that need no log-probs."""
    return objective.draws_before_log_probs() and not state and not objective.couples(training=True)


def _masks_alone(pairs: Sequence[EncodedPair], device: torch.device) -> PairLogps:
    """Return B pairs with the masks of their tokens and without log-probs (all 0)."""
    mask = answer_mask([*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)], device)
    chosen, rejected = mask[: len(pairs)], mask[len(pairs) :]
    return PairLogps(chosen.new_zeros(chosen.shape, dtype=torch.float32), rejected.new_zeros(rejected.shape, dtype=torch.float32),
                     chosen, rejected)  # fmt: skip


def _draws_of(draws: Draws, first: int, logps: PairLogps) -> Draws:
    """Return the rows of a micro-batch that begins at pair `first`, cut or padded to its number of tokens."""
    width = logps.chosen.shape[1]

    def own(values: Tensor) -> Tensor:
        rows = values[first : first + len(logps)]
        return rows if rows.ndim < 2 else nn.functional.pad(rows, (0, width - rows.shape[1]))  # a negative number cuts

    return {name: own(values) for name, values in draws.items()}


def _outputs_and_gradients(logps: PairLogps, credited: Credited, start: int, scale: float) -> tuple[list[Tensor], list[Tensor]]:
    """Return a micro-batch's outputs, and `scale` times the gradient of the summed losses with respect to each.

    start: Row of the micro-batch's first pair in `credited`.
    """
    rows = slice(start, start + len(logps))
    outputs = [logps.chosen, logps.rejected]
    gradients = [
        -credited.chosen[rows, : logps.chosen.shape[1]] * scale,
        -credited.rejected[rows, : logps.rejected.shape[1]] * scale,
    ]
    if logps.degraded is not None and credited.head is not None and logps.degraded.head_logits.requires_grad:
        outputs.append(logps.degraded.head_logits)
        gradients.append(credited.head[rows, : logps.degraded.head_logits.shape[1]] * scale)
    return outputs, gradients


def concatenate(parts: Sequence[PairLogps]) -> PairLogps:
    """Join batches along the pairs; completions are padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    width = max(max(p.chosen.shape[1], p.rejected.shape[1]) for p in parts)

    def join(name: str) -> Tensor | None:
        values = [getattr(p, name) for p in parts]
        if any(v is None for v in values):
            return None
        return torch.cat([nn.functional.pad(v, (0, width - v.shape[1])) for v in values])

    names = ("chosen", "rejected", "chosen_mask", "rejected_mask", "ref_chosen", "ref_rejected", "align_chosen", "align_rejected")
    tensors = {name: join(name) for name in names}
    degraded_parts = [p.degraded for p in parts if p.degraded is not None]
    degraded = None
    if len(degraded_parts) == len(parts):
        slots = max(d.degree.shape[1] for d in degraded_parts)
        padded = [_pad_slots(d, slots) for d in degraded_parts]
        ratios = [d.log_ratio for d in padded if d.log_ratio is not None]
        degraded = Degraded(
            torch.cat([d.head_logits for d in padded]),
            torch.cat([d.degree for d in padded]),
            torch.cat([d.present for d in padded]),
            torch.cat(ratios) if len(ratios) == len(padded) else None,
        )
    degrees = [p.pair_degree for p in parts if p.pair_degree is not None]
    pair_degree = torch.cat(degrees) if len(degrees) == len(parts) else None
    return PairLogps(**tensors, degraded=degraded, pair_degree=pair_degree)  # type: ignore[arg-type]


def _pad_slots(degraded: Degraded, slots: int) -> Degraded:
    """Pad degraded answers to K = `slots` places."""
    more = slots - degraded.degree.shape[1]
    pad = nn.functional.pad
    ratio = degraded.log_ratio
    return Degraded(
        pad(degraded.head_logits, (0, 0, 0, more)),
        pad(degraded.degree, (0, more)),
        pad(degraded.present, (0, more)),
        None if ratio is None else pad(ratio, (0, more)),
    )


def _stack(values: Sequence[np.ndarray | None], like: Tensor) -> Tensor | None:
    if any(v is None for v in values):
        return None
    out = np.zeros(tuple(like.shape), np.float32)
    for row, value in enumerate(values):
        assert value is not None
        out[row, : len(value)] = value
    return copy_to_device(out, like.device)


def _degraded(
    count: int,
    degrees: int,
    degraded: Sequence[tuple[int, int, DegradedAnswer]],
    logps: CompletionLogps,
    degree_head: nn.Module,
    reference: Reference | None,
) -> Degraded:
    """Score the degraded answers with SPO's head: logits [B, K, N] for K answers per pair and N degrees.

    count: B. degraded: (pair, slot, answer) of each, the last rows of `logps`. K is the largest number in a pair, at least 1.
    """
    device, first = logps.logps.device, len(logps.logps) - len(degraded)
    slots = max((slot for _, slot, _ in degraded), default=0) + 1
    logits = torch.zeros(count, slots, degrees, device=device)
    degree = torch.zeros(count, slots, dtype=torch.long, device=device)
    present = torch.zeros(count, slots, dtype=torch.bool, device=device)
    if not degraded:
        return Degraded(logits, degree, present, None if reference is None else torch.zeros(count, slots, device=device))
    assert logps.hidden is not None
    rows = torch.tensor([r for r, _, _ in degraded], device=device)
    places = torch.tensor([s for _, s, _ in degraded], device=device)
    logits = logits.index_put((rows, places), degree_head(logps.hidden[first:]))
    degree[rows, places] = torch.tensor([answer.degree for _, _, answer in degraded], device=device)
    present[rows, places] = True
    ref = None if reference is None else _stack([reference(answer.completion) for _, _, answer in degraded], logps.logps[first:])
    if ref is None:
        return Degraded(logits, degree, present)
    ratio = torch.zeros(count, slots, device=device)
    ratio[rows, places] = (logps.logps[first:].detach() - ref).sum(-1)
    return Degraded(logits, degree, present, ratio)
