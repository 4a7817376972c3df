"""Attention over a row of prompts with their answers, in which each answer attends to its own prompt and to itself only.

transformers registers attention functions by name, and every model written against that interface calls the function with its own
queries, keys and values. `install` switches a model to the function of this module; without a SharedRow (sampling, plain rows) it
computes what the model's own function does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from . import varlen
from .group import Group

KERNELS = ("grouped", "padded", "flex", "varlen")
"""grouped: one call per prompt, without padding (CPU). padded: one call for all, padded to the longest. flex: FlexAttention
over the whole row, which skips masked blocks (GPU). varlen: FlashAttention over sequences of unequal length (GPU, half
precision)."""


LEAST_UNREAD = 0.25
"""Share of a row's tokens from which on the last layer leaves them out; measured: a step takes 1 % less at 0.09, 5 % at a third."""


@dataclass(eq=False)
class SharedRow:
    """Attention mask of a row of groups, in the form that each kernel needs. kernel: one of KERNELS, which differ in speed only."""

    groups: tuple[Group, ...]
    device: torch.device
    kernel: str = "grouped"
    _masks: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each group."""
        return [group.length for group in self.groups]

    def mask(self, number: int, window: int | None, *, causal: bool = False) -> Tensor | None:
        """Mask of one group, [L, L] bool, True where the query (row) attends to the key (column).

        None where it is causal, unless `causal` asks for that one, too.
        """
        group = self.groups[number]
        window = window if window is not None and window < group.prompt + max(group.answers) else None
        if len(group.answers) == 1 and window is None and not causal:
            return None
        # Groups of the same shape have the same mask.
        key = (group, window)
        if key not in self._masks:
            segment, position = _places(group, self.device)
            self._masks[key] = _visible(segment, position, segment, position, window)
        return self._masks[key]

    def bias(self, number: int, window: int | None, dtype: torch.dtype, *, causal: bool = False) -> Tensor | None:
        """Mask of one group as numbers added to the scores, 0 and minus infinity; made once for all layers."""
        key = (self.groups[number], window, dtype, causal)
        if key not in self._masks:
            mask = self.mask(number, window, causal=causal)
            self._masks[key] = (
                None if mask is None else torch.zeros_like(mask, dtype=dtype).masked_fill_(mask.logical_not(), -torch.inf)
            )
        return self._masks[key]

    @cached_property
    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Group number, segment (0: prompt, k: k-th answer) and position of every token, each [N]."""
        places = [_places(group, self.device) for group in self.groups]
        number = torch.repeat_interleave(torch.tensor(self.lengths, device=self.device))
        return number, torch.cat([segment for segment, _ in places]), torch.cat([position for _, position in places])

    @cached_property
    def padding(self) -> tuple[Tensor, Tensor]:
        """Index of the token at each place of [G, longest] (0 where there is none), and the place of each token."""
        longest = max(self.lengths)
        inside = torch.arange(longest, device=self.device) < torch.tensor(self.lengths, device=self.device)[:, None]
        index = torch.zeros_like(inside, dtype=torch.long)
        index[inside] = torch.arange(sum(self.lengths), device=self.device)
        return index.flatten(), inside.flatten().nonzero().squeeze(1)

    def padded_mask(self, window: int | None) -> Tensor:
        """Mask [G, 1, longest, longest], bool; places without a token attend to themselves, so that no row is empty."""
        if ("padded", window) not in self._masks:
            longest = max(self.lengths)
            masks = torch.eye(longest, dtype=torch.bool, device=self.device).repeat(len(self.groups), 1, 1)
            for number, group in enumerate(self.groups):
                segment, position = _places(group, self.device)
                masks[number, : group.length, : group.length] = _visible(segment, position, segment, position, window)
            self._masks["padded", window] = masks[:, None]
        return self._masks["padded", window]

    @cached_property
    def narrows(self) -> bool:
        """Whether the last layer leaves out tokens whose final state is not read: where they are many (see `last_layer`)."""
        unread = sum(group.prompt - 1 for group in self.groups)
        return self.kernel == "grouped" and unread >= LEAST_UNREAD * sum(self.lengths)

    @cached_property
    def read(self) -> Tensor:
        """Index of the tokens whose final state is read, [M]: the last of every prompt, and the answers."""
        _, segment, position = self.places
        prompts = torch.repeat_interleave(
            torch.tensor([group.prompt for group in self.groups], device=self.device),
            torch.tensor(self.lengths, device=self.device),
        )
        return ((segment > 0) | (position == prompts - 1)).nonzero().squeeze(1)

    @cached_property
    def unread(self) -> Tensor:
        """Index of the other tokens, [N - M]."""
        other = torch.ones(sum(self.lengths), dtype=torch.bool, device=self.device)
        other[self.read] = False
        return other.nonzero().squeeze(1)

    @cached_property
    def order(self) -> Tensor:
        """Place of every token of the row, [N], in a sequence of the unread tokens followed by the read ones."""
        return torch.cat([self.unread, self.read]).argsort()

    @cached_property
    def sequences(self) -> varlen.Sequences:
        """The row as sequences of unequal length."""
        return varlen.sequences(self.groups, self.device)

    def block_mask(self, window: int | None) -> Any:
        """FlexAttention's mask over [N, N]."""
        if ("blocks", window) not in self._masks:
            from torch.nn.attention.flex_attention import create_block_mask

            number, segment, position = self.places

            def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
                return (number[q] == number[k]) & _visible_pair(segment[q], position[q], segment[k], position[k], window)

            count = len(number)
            self._masks["blocks", window] = create_block_mask(sees, None, None, count, count, device=str(self.device))
        return self._masks["blocks", window]


def install(model: Any) -> bool:
    """Switch a model to this attention; returns False, without a change, where it does not use transformers' interface."""
    implementation = model.config._attn_implementation
    if implementation in ("lab_sdpa", "lab_eager"):
        return True
    if not getattr(model, "_supports_attention_backend", False) or implementation not in ("sdpa", "eager"):
        return False
    model.set_attn_implementation(f"lab_{implementation}")
    return model.config._attn_implementation == f"lab_{implementation}"


def uninstall(model: Any) -> None:
    """Switch a model back to its attention before `install`."""
    model.set_attn_implementation(model.config._attn_implementation.removeprefix("lab_"))


def shared_attention(
    query: Tensor, key: Tensor, value: Tensor, row: SharedRow, *, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    """Attend within the groups of a row: query [1, heads, N, D], key and value [1, kv heads, N, D] -> [1, heads, N, D]."""
    if torch.is_autocast_enabled(query.device.type):  # rotary embeddings may be computed in a higher precision than the model's
        narrow = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(narrow), key.to(narrow), value.to(narrow)
    if row.kernel == "varlen":
        if softcap is not None:
            raise RuntimeError("The kernel varlen (FlashAttention) does not support soft-capping.")
        return varlen.attend(query, key, value, row.sequences, scaling=scaling, window=window)
    if row.kernel == "flex":
        return _flex(query, key, value, row, scaling, window, softcap)
    repeats = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    if row.kernel == "padded":
        index, back = row.padding
        groups = len(row.groups)

        def spread(x: Tensor) -> Tensor:
            return x[0].index_select(1, index).unflatten(1, (groups, -1)).transpose(0, 1)

        mask = row.padded_mask(window)
        out = _attend(spread(query), spread(key), spread(value), mask, scaling, softcap)
        return out.transpose(0, 1).flatten(1, 2).index_select(1, back)[None]
    # In the last layer there may be queries of the tokens that are read only: the last ones of each group.
    partial = query.shape[2] < key.shape[2]
    lengths = [group.length - group.prompt + 1 for group in row.groups] if partial else row.lengths
    outs = []
    parts = zip(query.split(lengths, 2), key.split(row.lengths, 2), value.split(row.lengths, 2))
    for number, (q, k, v) in enumerate(parts):
        bias = row.bias(number, window, q.dtype, causal=partial)
        outs.append(_attend(q, k, v, None if bias is None else bias[-q.shape[2] :], scaling, softcap))
    return torch.cat(outs, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, softcap: float | None) -> Tensor:
    if softcap is None:
        return sdpa(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling)
    scores = softcap * torch.tanh(q @ k.transpose(-1, -2) * (scaling or q.shape[-1] ** -0.5) / softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(scores.shape[-1] - scores.shape[-2])
    scores = scores.masked_fill(mask.logical_not(), -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


def _flex(
    query: Tensor, key: Tensor, value: Tensor, row: SharedRow, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    def capped(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    attend = _compiled_flex() if query.device.type == "cuda" else _plain_flex()
    return attend(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=row.block_mask(window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


_flex_kernels: dict[str, Any] = {}


def _plain_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


def _compiled_flex() -> Any:
    if "compiled" not in _flex_kernels:
        _flex_kernels["compiled"] = torch.compile(_plain_flex(), dynamic=True)
    return _flex_kernels["compiled"]


def _lab_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    shared_row: SharedRow | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer: [B, heads, L, D] -> [B, L, heads, D]."""
    softcapped = softcap is not None or module.config._attn_implementation == "lab_eager"
    if shared_row is None and not softcapped:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, sliding_window=sliding_window, **others
        )
    if shared_row is None:
        repeats = query.shape[1] // key.shape[1]
        key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
        return _attend(query, key, value, attention_mask, scaling, softcap).transpose(1, 2).contiguous(), None
    out = shared_attention(query, key, value, shared_row, scaling=scaling, window=sliding_window, softcap=softcap)
    return out.transpose(1, 2).contiguous(), None  # some models take a view of it


AttentionInterface.register("lab_sdpa", _lab_attention)
AttentionInterface.register("lab_eager", _lab_attention)
AttentionMaskInterface.register("lab_sdpa", sdpa_mask)
AttentionMaskInterface.register("lab_eager", eager_mask)


def _places(group: Group, device: torch.device) -> tuple[Tensor, Tensor]:
    """Segment and position of every token of a group, each [L]."""
    lengths = torch.tensor([group.prompt, *group.answers], device=device)
    segment = torch.repeat_interleave(lengths)
    starts = lengths.cumsum(0) - lengths
    position = torch.arange(group.length, device=device) - starts[segment] + group.prompt * (segment > 0)
    return segment, position


def _visible_pair(seg_q: Tensor, pos_q: Tensor, seg_k: Tensor, pos_k: Tensor, window: int | None) -> Tensor:
    sees = ((seg_k == 0) | (seg_k == seg_q)) & (pos_k <= pos_q)
    return sees if window is None else sees & (pos_q - pos_k < window)


def _visible(seg_q: Tensor, pos_q: Tensor, seg_k: Tensor, pos_k: Tensor, window: int | None) -> Tensor:
    return _visible_pair(seg_q[:, None], pos_q[:, None], seg_k[None], pos_k[None], window)
