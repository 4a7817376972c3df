"""A row of arbitrary tokens: two models that compute the same have the same log-probs on it, but for rounding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOKENS = 16
CONVERTED = 1e-4
"""Nats between log-probs of a model and of its conversion or merge that float32 rounding always explains, over the vocabulary."""
AMPLIFIED = 8.0
"""Where a model amplifies rounding (recurrent ones, 3e-5), two ways may differ by this many times what one rounding of the input
embeddings changes. Measured: float32 against float64 differ by 0.5 to 2 times as much."""


def arbitrary_pass(model: Any, tokens: int = TOKENS) -> Any:
    """What a model returns for a row of so many tokens, in evaluation mode and without gradients; its mode stays as it is."""
    weight = model.get_input_embeddings().weight  # an embedding with an adapter has no num_embeddings
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
    """Log-probs of every token at every place of the row, [L, V], float32."""
    return arbitrary_pass(model).logits[0].float().log_softmax(-1)


def unexplained_difference(model: Any, expected: Tensor) -> float:
    """The largest difference, in nats, of a float32 model's log-probs on the row from `expected`; 0 where rounding explains it."""
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
    """A forward hook: every number of the output is rounded once more, one way or the other."""
    signs = torch.randint(0, 2, out.shape, generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1).to(out)
    return out * (1 + signs * torch.finfo(out.dtype).eps)
