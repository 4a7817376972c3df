"""The gradient of one optimizer step: pairs to token log-probs, log-probs to credit, credit to parameters.

Backward runs in two pieces. The first, loss to log-probs, is tiny and gives every token's credit; the second sends
that credit through the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lab.objectives import Credited, Degraded, Draws, Objective, PairLogps, State, with_credit
from lab.policy import CompletionLogps, Policy, PromptAnswer
from lab.policy.kernels.device_copy import copy_to_device
from lab.policy.randomness import global_generator
from lab.training.data.encoded_pairs import DegradedAnswer, EncodedPair

from .distributed import ALONE, Workers

PARTS_APART = 2**26
"""Between the seeds of two parts of a batch: more than there are steps, see `generator`."""

Reference = Callable[[PromptAnswer], np.ndarray | None]
"""Token log-probs of a completion under the reference, float32 [T]; None where there is none."""

Probe = Callable[[Sequence[Tensor], Sequence[Tensor]], None]
"""Told what a part's graph begins with (log-probs of the chosen, of the rejected and, where there is one, the degree head's
logits), and the gradient of the batch's mean loss with respect to each. It has to leave the graph alive."""


@dataclass(frozen=True)
class StepResult:
    """What a step computed. The gradient itself lies in the parameters' `.grad`, that of the mean loss over the batch."""

    credited: Credited
    logps: PairLogps  # detached
    draws: Draws


def pair_logps(
    policy: Policy,
    objective: Objective,
    pairs: Sequence[EncodedPair],
    reference: Reference | None,
    degree_head: nn.Module | None = None,
) -> PairLogps:
    """Token log-probs of a batch of encoded pairs, with reference, alignment and weakened answers as the objective needs."""
    count = len(pairs)
    degraded_spec = objective.degraded_spec()
    degraded = (
        [(row, slot, weak) for row, pair in enumerate(pairs) for slot, weak in enumerate(pair.degraded)] if degraded_spec else []
    )
    completions = [p.chosen for p in pairs] + [p.rejected for p in pairs] + [weak.completion for _, _, weak in degraded]
    pooling = degraded_spec.pooling if degraded_spec and degraded else None
    found = policy.logps(completions, align=objective.needs_alignment, pooling=pooling)
    sides = {"chosen": slice(0, count), "rejected": slice(count, 2 * count)}
    ref: dict[str, Tensor | None] = {"chosen": None, "rejected": None}
    if reference is not None:
        for side, rows in sides.items():
            ref[side] = _stack([reference(c) for c in completions[rows]], found.logps[rows])
    degraded_logits = None
    if degraded_spec and degree_head is not None:
        degraded_logits = _degraded(count, degraded_spec.degrees, degraded, found, degree_head, reference)
    align = {side: None if found.align is None else found.align[rows] for side, rows in sides.items()}
    return PairLogps(
        chosen=found.logps[sides["chosen"]],
        rejected=found.logps[sides["rejected"]],
        chosen_mask=found.mask[sides["chosen"]],
        rejected_mask=found.mask[sides["rejected"]],
        ref_chosen=ref["chosen"],
        ref_rejected=ref["rejected"],
        align_chosen=align["chosen"],
        align_rejected=align["rejected"],
        degraded=degraded_logits,
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
    """Add the gradient of the mean loss of `pairs` to the parameters' `.grad`. Each of several workers computes its share.

    With a micro-batch size the result is that of the large batch for every objective, but for what an adapter drops: that is drawn
    for each part. Where the loss of a pair needs nothing
    but that pair, part after part goes forward and backward. Otherwise (pairs that depend on each other, draws made for the
    whole batch, a state) the log-probs of all parts are computed first without a graph, the objective sees the whole batch
    at once, and each part is computed again with its credit sent back: one more forward.
    `probe` is called for every part before its credit is sent back; see `Probe`.
    training: False where the objective is to judge by the statistics it has, as an evaluation does, and not by this batch's.
    dropout_seed: makes what an adapter drops in a part the same in both of its passes, and different in every worker.
    """
    count = len(pairs)
    own = workers.share(count)
    size = micro_batch_size or count
    starts = range(own.start, own.stop, size)
    parts = [pairs[start : min(start + size, own.stop)] for start in starts]

    def forward(number: int) -> PairLogps:
        seeded: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if dropout_seed is not None:  # dropout knows no generator but the global one
            devices = [policy.device] if policy.device.type == "cuda" else []
            seeded = global_generator(dropout_seed + PARTS_APART * (number * workers.world_size + workers.rank), devices)
        with seeded:
            return pair_logps(policy, objective, parts[number], reference, degree_head)

    def judge(logps: PairLogps) -> tuple[Credited, Draws]:
        draws = objective.draw(logps, rng)
        return with_credit(objective, logps, state, draws, training=training), draws

    def send_back(logps: PairLogps, credited: Credited, start: int) -> None:
        outputs, gradients = _gradients(logps, credited, start, workers.world_size / count)
        if probe is not None:
            probe(outputs, gradients)
        torch.autograd.backward(outputs, gradients)

    seen: list[PairLogps] = []
    if len(parts) == 1:
        logps = forward(0)
        whole = concatenate(workers.gather(logps.map(Tensor.detach)))
        credited, draws = judge(whole)
        send_back(logps, credited, own.start)
    elif stands_alone(objective, state):
        for number in range(len(parts)):
            workers.exchange(policy, number == len(parts) - 1)
            logps = forward(number)
            seen.append(logps.map(Tensor.detach))
            send_back(logps, judge(seen[-1])[0], 0)
            del logps  # its graph must be gone before the next one grows
        whole = concatenate(workers.gather(concatenate(seen)))
        credited, draws = judge(whole)
    else:
        with torch.no_grad():
            seen = [forward(number) for number in range(len(parts))]
        whole = concatenate(workers.gather(concatenate(seen)))
        credited, draws = judge(whole)
        for number, start in enumerate(starts):
            workers.exchange(policy, number == len(parts) - 1)
            send_back(forward(number), credited, start)
    if degree_head is not None:
        workers.average(p.grad for p in degree_head.parameters())
    return StepResult(credited, whole, draws)


def stands_alone(objective: Objective, state: State) -> bool:
    """True where a pair's loss and credit follow from that pair alone."""
    draws_nothing = type(objective).draw is Objective.draw
    return draws_nothing and not state and not objective.couples(training=True)


def _gradients(logps: PairLogps, credited: Credited, start: int, scale: float) -> tuple[list[Tensor], list[Tensor]]:
    """What a part's graph begins with, and `scale` times the gradient of the summed losses with respect to it; the part's first
    pair is number `start` of those that were credited."""
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
    """Batches joined along the pairs, completions padded to the longest."""
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
    weak = [p.degraded for p in parts]
    degraded = None
    if all(d is not None for d in weak):
        slots = max(d.degree.shape[1] for d in weak if d is not None)
        found = [_widened(d, slots) for d in weak if d is not None]
        ratios = [d.log_ratio for d in found if d.log_ratio is not None]
        degraded = Degraded(
            torch.cat([d.head_logits for d in found]),
            torch.cat([d.degree for d in found]),
            torch.cat([d.present for d in found]),
            torch.cat(ratios) if len(ratios) == len(found) else None,
        )
    return PairLogps(**tensors, degraded=degraded)  # type: ignore[arg-type]


def _widened(degraded: Degraded, slots: int) -> Degraded:
    """The same answers with K = slots, the new places empty."""
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
    found: CompletionLogps,
    degree_head: nn.Module,
    reference: Reference | None,
) -> Degraded:
    """The weakened answers, given as (pair, slot, answer), with their head logits spread to [B, K, N].

    They are the last rows of `found`. K is the most any pair of the batch has, at least 1.
    """
    device, first = found.logps.device, len(found.logps) - len(degraded)
    slots = max((slot for _, slot, _ in degraded), default=0) + 1
    logits = torch.zeros(count, slots, degrees, device=device)
    degree = torch.zeros(count, slots, dtype=torch.long, device=device)
    present = torch.zeros(count, slots, dtype=torch.bool, device=device)
    if not degraded:
        return Degraded(logits, degree, present, None if reference is None else torch.zeros(count, slots, device=device))
    assert found.hidden is not None
    rows = torch.tensor([r for r, _, _ in degraded], device=device)
    places = torch.tensor([s for _, s, _ in degraded], device=device)
    logits = logits.index_put((rows, places), degree_head(found.hidden[first:]))
    degree[rows, places] = torch.tensor([w.degree for _, _, w in degraded], device=device)
    present[rows, places] = True
    ref = None if reference is None else _stack([reference(w.completion) for _, _, w in degraded], found.logps[first:])
    if ref is None:
        return Degraded(logits, degree, present)
    ratio = torch.zeros(count, slots, device=device)
    ratio[rows, places] = (found.logps[first:].detach() - ref).sum(-1)
    return Degraded(logits, degree, present, ratio)
