"""Gradient flow by layer: how much of a layer's gradient comes from the chosen answers, how much from the rejected, and
whether the two pull together.

The gradient is linear in the token credit, so one extra backward pass of the chosen credit alone gives the split:
g_rejected = g_total - g_chosen. It runs before the step's own backward and leaves no trace in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .writer import LayerRow

BLOCK = re.compile(r"^(?:.*\.)?(layers|h|blocks|block)\.(\d+)\.")


def layer_of(parameter: str) -> str:
    """The layer a parameter is counted to: its block ("layers.3"), or its own module ("embed_tokens", "norm", "lm_head")."""
    match = BLOCK.match(parameter)
    if match:
        return f"{match[1]}.{match[2]}"
    parts = parameter.split(".")
    return parts[-2] if len(parts) > 1 else parts[0]


def split_gradients(total: Mapping[str, Tensor], chosen: Mapping[str, Tensor]) -> list[LayerRow]:
    """Norms of both parts and their cosine for every layer, in the order of the parameters. One copy to the host.

    total, chosen: gradients by parameter name; the same names in both.
    """
    sums: dict[str, Tensor] = {}
    for name, g in total.items():
        g_c = chosen[name].detach().float()
        g_r = g.detach().float() - g_c
        numbers = torch.stack([(g_c * g_c).sum(), (g_r * g_r).sum(), (g_c * g_r).sum()])
        layer = layer_of(name)
        sums[layer] = sums[layer] + numbers if layer in sums else numbers
    if not sums:
        return []
    table = torch.stack(list(sums.values())).cpu().double()
    rows = []
    for layer, (cc, rr, cr) in zip(sums, table.tolist()):
        norm = (cc * rr) ** 0.5
        rows.append(LayerRow(layer, cc**0.5, rr**0.5, cr / norm if norm > 0 else 0.0))
    return rows


class ProbeBudget:
    """Decides when a probe is due so that all probes together take at most `share` of the training time."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.spent = 0.0
        self.trained = 0.0

    def due(self) -> bool:
        """True on the first step, and whenever what was spent is within the budget."""
        return self.share > 0 and self.spent <= self.share * self.trained

    @property
    def cost(self) -> float:
        """Share of the training time that probes have taken so far."""
        return self.spent / self.trained if self.trained else 0.0
