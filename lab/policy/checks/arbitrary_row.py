"""Compare two models by their log-probs on a row of arbitrary tokens: equal models differ by rounding only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOKENS = 16
CONVERTED = 1e-4
"""Largest difference (nats, over the vocabulary) of a model and its conversion or merge that float32 rounding always explains."""
AMPLIFIED = 8.0
"""Allowed difference as a multiple of the change that rounding the input embeddings once more makes; for models that amplify
rounding (recurrent ones, 3e-5 nats). Measured: float32 and float64 differ by 0.5 to 2 times that change."""


def arbitrary_pass(model: Any, tokens: int = TOKENS) -> Any:
    """Run a model on a row of arbitrary tokens, in evaluation mode and without gradients; its mode is restored."""
    weight = model.get_input_embeddings().weight  # an embedding with an adapter has no attribute num_embeddings
    config = getattr(model, "config", None)
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None) or tokens
    row = torch.randint(weight.shape[0], (1, min(tokens, positions)), generator=torch.Generator().manual_seed(0)).to(weight.device)
    was_training = model.training
    try:
        with torch.no_grad():
            return model.eval()(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False)
    finally:
        model.train(was_training)


def arbitrary_logps(model: Any) -> Tensor:
    """Compute the log-probs of every token at every position of the row, [L, V] float32."""
    return arbitrary_pass(model).logits[0].float().log_softmax(-1)


def unexplained_difference(model: Any, expected: Tensor) -> float:
    """Return the largest difference (nats) of a float32 model's log-probs from `expected`, or 0 where rounding explains it."""
    own = arbitrary_logps(model)
    difference = float((own - expected).abs().max())
    if difference <= CONVERTED:
        return 0.0
    handle = model.get_input_embeddings().register_forward_hook(round_once_more)
    try:
        noise = float((arbitrary_logps(model) - own).abs().max())
    finally:
        handle.remove()
    return 0.0 if difference <= AMPLIFIED * noise else difference


def round_once_more(module: Any, args: Any, out: Tensor) -> Tensor:
    """Round every number of a module's output once more, up or down at random (a forward hook)."""
    signs = torch.randint(0, 2, out.shape, generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1).to(out)
    return out * (1 + signs * torch.finfo(out.dtype).eps)
