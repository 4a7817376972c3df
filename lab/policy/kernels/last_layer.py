"""The last layer of a model, computed only for the tokens of a shared row whose final state is read.

The tokens of a prompt before its last one predict nothing: of the last layer only their keys and values matter. So this layer's
attention, output projection and MLP are computed for the last token of every prompt and for the answers. The layer's own code is
called twice, with an object in the place of transformers' cache: for the other tokens up to their keys and values, then for the
tokens that are read, whose attention gets the keys and values of all. Final states of the other tokens are 0.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

CACHES = ("cache", "past_key_values", "past_key_value", "layer_past")
"""Names under which layers of transformers get their cache."""


def install(model: Any) -> bool:
    """Compute the last layer of a model only where it is read; returns False, without a change, where no layer is recognised.

    Nothing changes for rows that are not shared. `choose_layout` checks the result.
    """
    body = model.get_decoder() if hasattr(model, "get_decoder") else model
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = [m for m in body.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if len(lists) != 1 or not set(CACHES) & set(_parameters(lists[0][-1])):
        return False
    layer: Any = lists[0][-1]
    layer.forward = types.MethodType(_forward, layer)
    return True


def _parameters(layer: nn.Module) -> list[str]:
    """Return the names of what a layer is given after the hidden states."""
    return list(inspect.signature(type(layer).forward).parameters)[2:]


class _KeysKnown(Exception):
    """Ends a call of the layer once its keys and values are computed."""


class _Record:
    """Takes the place of a cache, keeps the keys and values of a call, and ends the call."""

    keys: Tensor
    values: Tensor

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keep keys and values, [1, heads, tokens, D]."""
        self.keys, self.values = keys, values
        raise _KeysKnown


class _Merge:
    """Takes the place of a cache, and adds recorded keys and values to those of a call, in the order of the row."""

    def __init__(self, record: _Record, order: Tensor) -> None:
        self.record, self.order = record, order

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return the keys and values of all tokens, [1, heads, N, D]."""
        return self._merged(self.record.keys, keys), self._merged(self.record.values, values)

    def _merged(self, others: Tensor, own: Tensor) -> Tensor:
        return torch.cat([others, own], 2).index_select(2, self.order)


def _forward(self: Any, hidden_states: Tensor, *args: Any, shared_row: Any = None, **kwargs: Any) -> Any:
    own = type(self).forward
    recomputed = self.training and getattr(self, "gradient_checkpointing", False)  # transformers then takes the cache away
    if shared_row is None or not shared_row.narrows or recomputed:
        row = {} if shared_row is None else {"shared_row": shared_row}
        return own(self, hidden_states, *args, **row, **kwargs)
    names = _parameters(self)
    kwargs |= zip(names, args)
    cache = next(name for name in names if name in CACHES)
    count, record = hidden_states.shape[1], _Record()

    def compute(at: Tensor, instead: _Record | _Merge) -> Any:
        given: Any = {name: _select(value, at, count) for name, value in kwargs.items()} | {cache: instead}
        return own(self, hidden_states.index_select(1, at), shared_row=shared_row, **given)

    try:
        compute(shared_row.unread, record)
        raise RuntimeError("This layer stores no keys and values in a cache, so they cannot be computed alone.")
    except _KeysKnown:
        out = compute(shared_row.read, _Merge(record, shared_row.order))
    return out.new_zeros(hidden_states.shape).index_copy(1, shared_row.read, out)


def _select(value: Any, at: Tensor, count: int) -> Any:
    """Return what a layer is given for some of the row's `count` tokens: positions, or rotary embeddings [1, N, D]."""
    if isinstance(value, Tensor):
        return value.index_select(1, at) if value.ndim > 1 and value.shape[1] == count else value
    if isinstance(value, tuple):
        return tuple(_select(part, at, count) for part in value)
    if isinstance(value, Mapping):
        return {name: _select(part, at, count) for name, part in value.items()}
    return value
