"""Gradient flow by layer: norms of the chosen and the rejected part of a layer's gradient, their cosine, and the layer's update.

The gradient is linear in the token credit, so one extra backward pass of the chosen credit gives the split:
g_rejected = g_total - g_chosen. It runs before the step's own backward pass and does not change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from lab.store.writer import LayerRow

BLOCK = re.compile(r"^(?:.*\.)?(layers|h|blocks|block)\.(\d+)\.")
ADAPTER = re.compile(r"\.(?:lora_\w+|modules_to_save)\.")
"""Separates, in a parameter's name, the adapted module from the adapter's part."""

ALL = "all"
"""Value of `probe_layers` that selects every layer."""


def layer_of(parameter: str) -> str:
    """Return the layer of a parameter: its block ("layers.3"), or its own module ("embed_tokens", "norm", "lm_head").

    A parameter of an adapter belongs to the layer of the adapted module.
    """
    match = BLOCK.match(parameter)
    if match:
        return f"{match[1]}.{match[2]}"
    module, *adapter = ADAPTER.split(parameter, maxsplit=1)
    parts = module.split(".")
    return parts[-2] if len(parts) > 1 and not adapter else parts[-1]


def select_layers(parameters: Iterable[str], wanted: str) -> tuple[str, ...]:
    """Return the names of the parameters in the selected layers, in their order.

    Args:
        parameters: Names of all trained parameters.
        wanted: "all", or comma-separated names of layers with * as a wildcard: "layers.0, layers.1*, lm_head".

    Raises:
        ValueError: A name matches no layer; the message lists the layers.
    """
    names = list(parameters)
    layers = list(dict.fromkeys(map(layer_of, names)))
    patterns = [pattern.strip() for pattern in wanted.split(",") if pattern.strip()]
    if patterns == [ALL]:
        return tuple(names)
    for pattern in patterns or [wanted]:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise ValueError(
                f"probe_layers = {wanted!r}: no layer that is trained is called {pattern!r}; there are {', '.join(layers)}."
            )
    selected = {layer for layer in layers if any(fnmatchcase(layer, pattern) for pattern in patterns)}
    return tuple(name for name in names if layer_of(name) in selected)


def split_gradients(
    total: Mapping[str, Tensor], chosen: Mapping[str, Tensor], rejected: Mapping[str, Tensor] | None = None
) -> list[LayerRow]:
    """Return the norms of the chosen and rejected gradient and their cosine for every layer, in the order of the parameters.

    Args:
        total: The step's gradient by parameter name.
        chosen: Its chosen part; parameters missing here are not counted.
        rejected: Its rejected part; None computes it as total - chosen. Needed with SPO, whose total has a third part.
    """
    sums: dict[str, Tensor] = {}
    for name, g in total.items():
        if name not in chosen:
            continue
        g_c = _wide(chosen[name])
        g_r = _wide(rejected[name]) if rejected is not None else _wide(g) - g_c
        _add(sums, name, [(g_c * g_c).sum(), (g_r * g_r).sum(), (g_c * g_r).sum()])
    rows = []
    for layer, (cc, rr, cr) in _on_host(sums).items():
        norm = (cc * rr) ** 0.5
        rows.append(LayerRow(layer, cc**0.5, rr**0.5, cr / norm if norm > 0 else 0.0))
    return rows


def with_updates(rows: Iterable[LayerRow], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[LayerRow]:
    """Return the rows with each layer's update-to-weight ratio, |after - before| / |before|; NaN where all weights are 0.

    It measures the actual update, after clipping, AdamW's scaling, weight decay, learning rate and rounding. With LoRA the weights
    are the adapter's (A and B together; B begins at 0, so the ratio is large at first), not those of the frozen module.

    Args:
        rows: Rows of `split_gradients`.
        before: Weights before the optimizer step, by parameter name.
        after: Weights after it.
    """
    sums: dict[str, Tensor] = {}
    for name, old in before.items():
        w = _wide(old)
        moved = _wide(after[name]) - w
        _add(sums, name, [(moved * moved).sum(), (w * w).sum()])
    ratios = {layer: (uu / ww) ** 0.5 if ww > 0 else float("nan") for layer, (uu, ww) in _on_host(sums).items()}
    return [replace(row, update_ratio=ratios.get(row.layer, row.update_ratio)) for row in rows]


def _wide(tensor: Tensor) -> Tensor:
    """Detach a tensor and convert it to float32, or keep a wider type."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def _add(sums: dict[str, Tensor], parameter: str, numbers: list[Tensor]) -> None:
    layer, values = layer_of(parameter), torch.stack(numbers)
    sums[layer] = sums[layer] + values if layer in sums else values


def _on_host(sums: dict[str, Tensor]) -> dict[str, list[float]]:
    return dict(zip(sums, torch.stack(list(sums.values())).cpu().double().tolist())) if sums else {}


class ProbeBudget:
    """Decides when a probe is due, so that all probes together take at most `share` of the training time.

    The first probe is always due, since its cost is unknown and the first step is the most informative. Each later one is due once
    the budget covers the cost of the last, so `spent <= share * trained + cost of one probe` at any moment. A resumed run starts
    counting anew. OURS.

    Attributes:
        share: Share of the training time for probes, in [0, 1].
        spent: Seconds of all probes.
        trained: Seconds of training.
        last: Seconds of the latest probe; None before the first.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.spent = 0.0
        self.trained = 0.0
        self.last: float | None = None

    def due(self) -> bool:
        """Return whether the budget covers one more probe."""
        return self.share > 0 and (self.last is None or self.spent + self.last <= self.share * self.trained)

    def spend(self, seconds: float) -> None:
        """Count the seconds of a probe."""
        self.spent += seconds
        self.last = seconds
