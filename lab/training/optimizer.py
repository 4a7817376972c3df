"""The optimizer of a run, also used for virtual steps (`lab.whatif`), so that both take the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lab.run.config import TrainConfig


def adamw(config: TrainConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
    """Return AdamW over `parameters`, with learning rate 0 until one is set.

    Weight decay applies to matrices only, not to gains and biases, as in Hugging Face's Trainer.
    """
    weights, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others}]
    betas = (config.adam_beta1, config.adam_beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, weight_decay=0.0, fused=True)
