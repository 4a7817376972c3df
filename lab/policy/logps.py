"""Token log-probs of completions for training, reference, evaluation and metrics; the only module that computes logits.

Only completion positions are projected onto the vocabulary, in float32 and in chunks of tokens, so that no tensor of the size
[batch, length, vocabulary] is held. Where the projection is a matrix product alone, `LinearLogps` computes its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lab.policy.kernels.device_copy import copy_to_device
from lab.policy.kernels.projection import LinearLogps

from . import layout
from .interruption import interruption_point
from .kernels import fused
from .layout import Batch, PromptAnswer

CHUNK_ELEMENTS = 1 << 25
"""Number of logits held at a time (float32: 128 MiB)."""


@dataclass(frozen=True)
class CompletionLogps:
    """Token log-probs of R completions, T = tokens of the longest answer.

    logps:  [R, T] float32 nats, 0 where the mask is False.
    mask:   [R, T] bool, True on the answer's tokens that are trained on.
    align:  [R, T] log sum_v p(v)^2, or None if not requested.
    hidden: [R, H] a final hidden state of each completion, or None if not requested.
    """

    logps: Tensor
    mask: Tensor
    align: Tensor | None = None
    hidden: Tensor | None = None


@dataclass(frozen=True)
class LinearHead:
    """A projection onto the vocabulary that is scale * states weight' and nothing else (see `LinearLogps`)."""

    module: nn.Linear
    scale: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether the module is a plain linear map: no adapter, quantized or sharded weights, bias or hooks."""
        m = self.module
        hooked = m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        return type(m) is nn.Linear and type(m.weight) is nn.Parameter and m.bias is None and not hooked


@dataclass(frozen=True)
class Head:
    """A causal LM split into its body and its output projection.

    hidden:  Maps a batch to hidden states [R, L, H].
    project: Maps hidden states [N, H] to logits [N, V].
    whole:   True where the model cannot be split: `hidden` then returns the logits, [R, L, V].
    linear:  The projection, where it is a matrix product alone.
    reason:  Why the model cannot be split, if known.
    """

    hidden: Callable[[Batch], Tensor]
    project: Callable[[Tensor], Tensor]
    whole: bool = False
    linear: LinearHead | None = None
    reason: str | None = None

    @property
    def matrix(self) -> Tensor | None:
        """The weight [V, H], where the projection is an unscaled product with it; else None."""
        linear = self.linear
        return linear.module.weight if linear is not None and linear.plain and linear.scale == 1.0 else None


def split_head(model: Any) -> Head:
    """Split a model into body and output projection, with the scaling and soft-capping that its configuration names.

    `choose_layout` checks that this gives the model's own logits. A model without such parts is not split (`whole_head`).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    try:
        body, lm_head, config = base.base_model, base.get_output_embeddings(), base.config
    except (AttributeError, NotImplementedError):
        body = lm_head = None
    if body is None or body is base or lm_head is None:
        return whole_head(model, "it has no separate body and output layer")
    config = getattr(config, "text_config", config)
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1.0
    scale = scale / (getattr(config, "logits_scaling", None) or 1.0)

    def hidden(batch: Batch) -> Tensor:
        return body(**model_input(batch), use_cache=False).last_hidden_state

    def project(states: Tensor) -> Tensor:
        logits = lm_head(states).float()
        if scale != 1.0:
            logits = logits * scale
        return cap * torch.tanh(logits / cap) if cap else logits

    return Head(hidden, project, linear=None if cap else LinearHead(lm_head, scale))


def whole_head(model: Any, reason: str | None = None) -> Head:
    """Use the model's own forward pass with logits at every position: slow and memory-hungry, but correct for any model."""

    def hidden(batch: Batch) -> Tensor:
        return model(**model_input(batch), use_cache=False).logits

    return Head(hidden, lambda logits: logits.float(), whole=True, reason=reason)


def model_input(batch: Batch) -> dict[str, Any]:
    """Convert a batch to keyword arguments of a transformers model."""
    if batch.shared is None:
        return {"input_ids": batch.ids, "attention_mask": batch.attention_mask}
    return {
        "input_ids": batch.ids,
        "position_ids": batch.positions,
        # A 4-dimensional mask is passed on unchanged to the attention function, which uses `shared_row` instead.
        "attention_mask": torch.zeros(1, 1, 1, 1, device=batch.ids.device),
        "shared_row": batch.shared,
    }


class LogpsModule(nn.Module):
    """A causal LM whose forward pass returns log-probs, so that a wrapper (DDP, FSDP) covers the whole computation."""

    def __init__(self, model: Any, head: Head) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(
        self, batch: Batch, *, align: bool = False, pooling: str | None = None, chunk_elements: int = CHUNK_ELEMENTS
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Compute the log-probs of a batch's M targets.

        Args:
            batch: Model input and targets.
            align: Also compute log sum_v p(v)^2.
            pooling: Also pool the hidden states of each completion's tokens: "last" or "mean".
            chunk_elements: Number of logits held at a time.

        Returns:
            Log-probs [M] in float32 nats; log sum_v p(v)^2 [M] or None; pooled states [completions, H] or None.

        Raises:
            ValueError: Unknown pooling, or the model's hidden states are not separate from its logits.
        """
        states = self.head.hidden(batch).flatten(0, 1)
        read, linear = states.index_select(0, batch.reads), self.head.linear
        if self.head.matrix is not None and not align and len(batch.targets) and fused.available(read.device):
            return fused.fused_logps(read, self.head.matrix, batch.targets), None, self._pooled(states, batch, pooling)
        logps, aligned = token_logps(
            self.head.project, read, batch.targets, linear=linear, align=align, chunk_elements=chunk_elements
        )
        return logps, aligned, self._pooled(states, batch, pooling)

    def _pooled(self, states: Tensor, batch: Batch, pooling: str | None) -> Tensor | None:
        if pooling is None:
            return None
        if self.head.whole:
            raise ValueError("This model's hidden states are not separate from its logits, so it cannot have a degree head (SPO).")
        if pooling == "last":
            return states[torch.tensor([end - 1 for _, end in batch.spans], device=states.device)].float()
        if pooling != "mean":
            raise ValueError(f"There is no pooling {pooling!r}; choose last or mean.")
        return torch.stack([states[start:end].float().mean(0) for start, end in batch.spans])


def completion_logps(
    module: Callable[..., Any],
    completions: Sequence[PromptAnswer],
    *,
    pad_id: int,
    device: torch.device,
    shared: str | None = None,
    together: bool = False,
    single: bool = False,
    align: bool = False,
    pooling: str | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
    prebuilt: Batch | None = None,
) -> CompletionLogps:
    """Compute the log-prob of every completion token given its prompt and the tokens before it.

    Args:
        module: A LogpsModule, wrapped or not.
        completions: R prompts with answers.
        pad_id: Token id of the padding.
        device: Of the batch.
        shared: Attention kernel with which a prompt is computed once for all its answers; None for one row per completion.
        together: Compute plain rows in one batch instead of batches of similar length.
        single: Compute rows one at a time.
        align: Also compute log sum_v p(v)^2 at each position (WPO), detached.
        pooling: "last" or "mean": also return a final hidden state per completion (SPO's degree head), with gradient.
        chunk_elements: Number of logits held at a time.
        prebuilt: Batch of exactly these completions.

    Raises:
        ValueError: An empty prompt or answer.
    """
    layout.check(completions)
    if prebuilt is not None:
        batches = [prebuilt]
    elif shared is None:
        batches = layout.plain(completions, device, pad_id=pad_id, together=together, single=single)
    else:
        batches = [layout.shared(completions, device, last_state=pooling is not None, kernel=shared)]
    mask = answer_mask(completions, device)
    parts = [module(batch, align=align, pooling=pooling, chunk_elements=chunk_elements) for batch in batches]
    width = max(len(c.answer) for c in completions)
    index = (torch.cat([b.row for b in batches]), torch.cat([b.column for b in batches]))

    def spread(values: list[Tensor]) -> Tensor:
        flat = torch.cat(values)
        return flat.new_zeros(len(completions), width).index_put(index, flat)

    order = copy_to_device([number for batch in batches for number in batch.completions], device)
    logps = spread([logps for logps, _, _ in parts])
    if any(c.untrained for c in completions):
        logps = torch.where(mask, logps, 0.0)
    return CompletionLogps(
        logps=logps,
        mask=mask,
        align=spread([aligned for _, aligned, _ in parts]) if align else None,
        hidden=torch.cat([pooled for _, _, pooled in parts])[order.argsort()] if pooling else None,
    )


def answer_mask(completions: Sequence[PromptAnswer], device: torch.device) -> Tensor:
    """Return [R, T] bool, True on the answers' tokens that are trained on; T is the number of tokens of the longest answer."""
    width = max(len(c.answer) for c in completions)
    lengths = copy_to_device([len(c.answer) for c in completions], device)
    mask = torch.arange(width, device=device) < lengths[:, None]
    return mask & ~_untrained(completions, width).to(device) if any(c.untrained for c in completions) else mask


def _untrained(completions: Sequence[PromptAnswer], width: int) -> Tensor:
    """Return [R, width] bool, True on the tokens of answers that are given and not trained on."""
    given = torch.zeros(len(completions), width, dtype=torch.bool)
    for number, completion in enumerate(completions):
        for begin, end in completion.untrained:
            given[number, begin:end] = True
    return given


def token_logps(
    project: Callable[[Tensor], Tensor],
    states: Tensor,
    targets: Tensor,
    *,
    linear: LinearHead | None = None,
    align: bool = False,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> tuple[Tensor, Tensor | None]:
    """Compute log softmax(project(states))[targets], [N] float32 nats, and log sum_v p(v)^2 [N] or None.

    Args:
        project: Maps states to logits [N, V].
        states: [N, H].
        targets: [N] token ids.
        linear: The projection, where it is a matrix product alone.
        align: Also compute log sum_v p(v)^2, detached.
        chunk_elements: Number of logits held at a time.
    """
    if len(targets) == 0:
        return states.new_zeros(0, dtype=torch.float32), (states.new_zeros(0, dtype=torch.float32) if align else None)
    if linear is not None and linear.plain:
        weight = linear.module.weight
        size = max(chunk_elements // weight.shape[0], 1)
        picked, squares = LinearLogps.apply(states, weight, targets, linear.scale, size, align, torch.is_grad_enabled())
        return picked, squares if align else None

    def compute(chunk: Tensor, chunk_targets: Tensor) -> tuple[Tensor, Tensor]:
        interruption_point()
        logits = project(chunk).float()
        normaliser = torch.logsumexp(logits, -1)
        picked = logits.gather(-1, chunk_targets[:, None]).squeeze(-1) - normaliser
        if not align:
            return picked, picked.new_zeros(0)
        with torch.no_grad():
            squares = torch.logsumexp(2 * logits, -1) - 2 * normaliser
        return picked, squares

    with torch.no_grad():
        vocabulary = project(states[:1]).shape[-1]
    size = max(chunk_elements // vocabulary, 1)
    if len(targets) <= size:
        picked, squares = compute(states, targets)
        return picked, squares if align else None
    parts = [
        # A chunk is recomputed in the backward pass, so that the logits of only one chunk are held.
        checkpoint(compute, states[start : start + size], targets[start : start + size], use_reentrant=False)
        for start in range(0, len(targets), size)
    ]
    picked = torch.cat([p for p, _ in parts])
    return picked, torch.cat([s for _, s in parts]) if align else None
