"""Gradient flow by layer: how much of a layer's gradient comes from the chosen answers, how much from the rejected, whether
the two pull together, and how far the optimizer then moves the layer.

The gradient is linear in the token credit, so one extra backward pass of the chosen credit alone gives the split:
g_rejected = g_total - g_chosen. It runs before the step's own backward and leaves no trace in it.
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
"""Where, in a parameter's name, the module ends that an adapter stands beside."""

ALL = "all"
"""Every layer, where layers are chosen by name."""


def layer_of(parameter: str) -> str:
    """The layer a parameter is counted to: its block ("layers.3"), or its own module ("embed_tokens", "norm", "lm_head"). What an
    adapter adds to a module is counted as that module is."""
    match = BLOCK.match(parameter)
    if match:
        return f"{match[1]}.{match[2]}"
    module, *adapter = ADAPTER.split(parameter, maxsplit=1)
    parts = module.split(".")
    return parts[-2] if len(parts) > 1 and not adapter else parts[-1]


def select_layers(parameters: Iterable[str], wanted: str) -> tuple[str, ...]:
    """Names of the parameters whose layer is wanted, in their order.

    wanted: "all", or names of layers separated by commas, in which * stands for anything: "layers.0, layers.1*, lm_head".
    Raises ValueError, in one sentence that names the layers there are, where one of them matches no layer.
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
    kept = {layer for layer in layers if any(fnmatchcase(layer, pattern) for pattern in patterns)}
    return tuple(name for name in names if layer_of(name) in kept)


def split_gradients(
    total: Mapping[str, Tensor], chosen: Mapping[str, Tensor], rejected: Mapping[str, Tensor] | None = None
) -> list[LayerRow]:
    """Norms of both parts and their cosine for every layer, in the order of the parameters. One copy to the host.

    total, chosen: gradients by parameter name; only what both have is counted.
    rejected: the rejected part, where the total holds more than the two (SPO's degree head); else it is the rest of the total.
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
    """The rows with each layer's update-to-weight ratio: norm of (after - before) over norm of before. One copy to the host.

    before, after: weights by parameter name. It is the update that really took place: clipping, AdamW's scaling, weight decay,
    learning rate and rounding included. With LoRA the weights are the adapter's (A and B together; B begins at 0, so the ratio is
    large at first), not those of the frozen module beside it. NaN where a layer's weights are all 0.
    """
    sums: dict[str, Tensor] = {}
    for name, old in before.items():
        w = _wide(old)
        moved = _wide(after[name]) - w
        _add(sums, name, [(moved * moved).sum(), (w * w).sum()])
    ratios = {layer: (uu / ww) ** 0.5 if ww > 0 else float("nan") for layer, (uu, ww) in _on_host(sums).items()}
    return [replace(row, update_ratio=ratios.get(row.layer, row.update_ratio)) for row in rows]


def _wide(tensor: Tensor) -> Tensor:
    """Detached, in float32 or better."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def _add(sums: dict[str, Tensor], parameter: str, numbers: list[Tensor]) -> None:
    layer, found = layer_of(parameter), torch.stack(numbers)
    sums[layer] = sums[layer] + found if layer in sums else found


def _on_host(sums: dict[str, Tensor]) -> dict[str, list[float]]:
    return dict(zip(sums, torch.stack(list(sums.values())).cpu().double().tolist())) if sums else {}


class ProbeBudget:
    """Decides when a probe is due, so that all probes together take at most `share` of the training time.

    The first is always due, whatever it costs: it tells what a probe costs, and what is seen at the first step is worth most. Each
    later one waits until the time for it is there, as long as the last one took. So at any moment
    `spent <= share * trained + one probe`, and once the first is paid for the share is kept, unless a probe costs more than the one
    before. A run that is over sooner has had that one probe. Counting starts afresh where a run is resumed.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.spent = 0.0
        self.trained = 0.0
        self.last: float | None = None

    def due(self) -> bool:
        """Whether there is time for one more probe."""
        return self.share > 0 and (self.last is None or self.spent + self.last <= self.share * self.trained)

    def took(self, seconds: float) -> None:
        """A whole probe took so long."""
        self.spent += seconds
        self.last = seconds
