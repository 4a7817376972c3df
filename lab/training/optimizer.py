"""The optimizer of a run, made in one place, so that a step that is only tried is the step that the run would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lab.run.config import TrainConfig


def adamw(config: TrainConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW over some parameters, with learning rate 0 until somebody sets one.

    Weights decay, gains and biases do not, as Hugging Face's Trainer has it.
    """
    weights, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others}]
    betas = (config.adam_beta1, config.adam_beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, weight_decay=0.0, fused=True)
