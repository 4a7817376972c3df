"""The one place that touches logits: token log-probs of completions, for training, reference, evaluation and metrics.

Only completion positions are projected onto the vocabulary, in float32 and in chunks of tokens, so that nothing of the
size [batch, length, vocabulary] is ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 1 << 25
"""Logits held at once, in numbers (float32: 128 MiB)."""


@dataclass(frozen=True)
class Completion:
    """One answer behind one prompt, as token ids."""

    prompt: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True)
class CompletionLogps:
    """Token log-probs of R completions, T = longest answer.

    logps: [R, T] float32 nats, 0 where the mask is False.   mask: [R, T] bool.
    align: [R, T] log sum_v p(v)^2, or None if it was not asked for.
    hidden: [R, H] a final hidden state of each completion, or None.
    """

    logps: Tensor
    mask: Tensor
    align: Tensor | None = None
    hidden: Tensor | None = None


@dataclass(frozen=True)
class Head:
    """How a causal LM turns tokens into logits, taken apart: `hidden` gives [R, L, H], `project` maps [N, H] to [N, V].

    whole: `hidden` gives the logits themselves, [R, L, V], because this model cannot be taken apart.
    """

    hidden: Callable[[Tensor, Tensor], Tensor]
    project: Callable[[Tensor], Tensor]
    whole: bool = False


def split_head(model: Any) -> Head:
    """The model's body and its output projection, with the scaling and soft-capping that its configuration names."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    body, lm_head, config = base.base_model, base.get_output_embeddings(), base.config
    config = getattr(config, "text_config", config)
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1.0
    scale = scale / (getattr(config, "logits_scaling", None) or 1.0)

    def hidden(ids: Tensor, attention_mask: Tensor) -> Tensor:
        return body(input_ids=ids, attention_mask=attention_mask, use_cache=False).last_hidden_state

    def project(states: Tensor) -> Tensor:
        logits = lm_head(states).float()
        if scale != 1.0:
            logits = logits * scale
        return cap * torch.tanh(logits / cap) if cap else logits

    return Head(hidden, project)


def completion_logps(
    head: Head,
    completions: Sequence[Completion],
    *,
    pad_id: int,
    device: torch.device,
    align: bool = False,
    pooling: str | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> CompletionLogps:
    """Log-probs of every completion token given its prompt and the tokens before it.

    align:   also log sum_v p(v)^2 at each position (WPO), detached.
    pooling: "last" or "mean": also a final hidden state per completion (SPO's degree head), carries gradient.
    Rows are padded on the right. Raises ValueError for an empty prompt or answer.
    """
    for number, c in enumerate(completions):
        if not c.prompt or not c.answer:
            raise ValueError(
                f"Completion {number} has an empty {'answer' if c.prompt else 'prompt'}; both need at least one token."
            )
    rows = [[*c.prompt, *c.answer] for c in completions]
    ids, attention = _pad(rows, pad_id)
    # The state at position i predicts token i + 1, so an answer is read one position early.
    width = max(len(c.answer) for c in completions)
    starts = torch.tensor([len(c.prompt) - 1 for c in completions])
    lengths = torch.tensor([len(c.answer) for c in completions])
    offsets = torch.arange(width)
    mask = offsets < lengths[:, None]
    row, column = mask.nonzero(as_tuple=True)
    position = starts[row] + column
    targets = ids[row, position + 1].to(device)
    row, column, position = row.to(device), column.to(device), position.to(device)

    hidden = head.hidden(ids.to(device), attention.to(device))
    states = hidden[row, position]
    flat, flat_align = token_logps(head.project, states, targets, align=align, chunk_elements=chunk_elements)

    def spread(values: Tensor) -> Tensor:
        return torch.zeros(len(rows), width, device=device, dtype=values.dtype).index_put((row, column), values)

    mask = mask.to(device)
    pooled = None
    if pooling is not None:
        if head.whole:
            raise ValueError(
                "This model's hidden states cannot be read apart from its logits, so it has no place for a degree head (SPO)."
            )
        pooled = _pool(hidden, starts.to(device), lengths.to(device), pooling)
    return CompletionLogps(spread(flat), mask, None if flat_align is None else spread(flat_align), pooled)


def token_logps(
    project: Callable[[Tensor], Tensor],
    states: Tensor,
    targets: Tensor,
    *,
    align: bool = False,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> tuple[Tensor, Tensor | None]:
    """log softmax(project(states))[targets] in float32: states [N, H], targets [N] -> [N] nats (and log sum p^2 [N])."""
    if len(targets) == 0:
        return states.new_zeros(0, dtype=torch.float32), (states.new_zeros(0, dtype=torch.float32) if align else None)

    def one(chunk: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = project(chunk).float()
        normaliser = torch.logsumexp(logits, -1)
        picked = logits.gather(-1, wanted[:, None]).squeeze(-1) - normaliser
        if not align:
            return picked, picked.new_zeros(0)
        with torch.no_grad():
            squares = torch.logsumexp(2 * logits, -1) - 2 * normaliser
        return picked, squares

    with torch.no_grad():
        vocabulary = project(states[:1]).shape[-1]
    size = max(chunk_elements // vocabulary, 1)
    if len(targets) <= size:
        picked, squares = one(states, targets)
        return picked, squares if align else None
    parts = [
        # Activations of a chunk are computed again in the backward pass: the logits of one chunk are held, never of all.
        checkpoint(one, states[start : start + size], targets[start : start + size], use_reentrant=False)
        for start in range(0, len(targets), size)
    ]
    picked = torch.cat([p for p, _ in parts])
    return picked, torch.cat([s for _, s in parts]) if align else None


def _pool(hidden: Tensor, starts: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), starts + lengths].float()
    if pooling != "mean":
        raise ValueError(f"There is no pooling {pooling!r}; choose last or mean.")
    position = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (position > starts[:, None]) & (position <= (starts + lengths)[:, None])
    return (hidden.float() * inside[..., None]).sum(1) / lengths[:, None]


def _pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        attention[number, : len(row)] = 1
    return ids, attention
