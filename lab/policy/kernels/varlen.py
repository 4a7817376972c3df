"""Attention of shared prompts with FlashAttention over sequences of unequal length, without a mask (GPU, half precision).

A group `[prompt | answer | answer ..]` becomes one sequence of its prompt with the first answer, and one for each further answer,
whose queries are the answer's only and whose keys are the prompt's and its own. Causal attention aligned at the ends of
queries and keys, as in FlashAttention 2 (arXiv 2307.08691), is then the attention of a shared row, also with a sliding window. Keys
and values of a prompt are copied for every further answer, which costs little where heads share them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .device_copy import copy_to_device
from .group import Group


@dataclass(frozen=True, eq=False)
class Sequences:
    """Positions of the queries and keys of S sequences in a row of N tokens.

    queries, keys: [S + 1] int32, start of each sequence among the N queries and M keys, and the end of the last one.
    source:        [M] int64, the token of every key.
    longest_query, longest_key: Tokens of the longest sequence.
    """

    queries: Tensor
    keys: Tensor
    source: Tensor
    longest_query: int
    longest_key: int


def sequences(groups: Sequence[Group], device: torch.device) -> Sequences:
    """Make the sequences of a row of groups."""
    lengths: list[tuple[int, int]] = []
    source: list[Tensor] = []
    start = 0
    for group in groups:
        first, *others = group.answers
        lengths.append((group.prompt + first, group.prompt + first))
        source.append(torch.arange(start, start + group.prompt + first))
        place = start + group.prompt + first
        for answer in others:
            if answer:  # an answer of one token has no state of its own: the prompt's last predicts it
                lengths.append((answer, group.prompt + answer))
                source += [torch.arange(start, start + group.prompt), torch.arange(place, place + answer)]
            place += answer
        start = place
    table = torch.tensor([(0, 0), *lengths])
    ends = copy_to_device(table.cumsum(0).to(torch.int32).T.contiguous(), device)
    longest = table.amax(0).tolist()
    return Sequences(ends[0], ends[1], copy_to_device(torch.cat(source), device), longest[0], longest[1])


def attend(query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, *, scaling: float | None, window: int | None) -> Tensor:
    """Attend within sequences: query [1, heads, N, D], key and value [1, kv heads, N, D] in half precision -> [1, heads, N, D]."""
    from torch.nn.attention import varlen

    def rows(x: Tensor) -> Tensor:
        return x[0].transpose(0, 1)

    # Until torch 2.11 grouped-query attention needs no flag.
    flash: Any = varlen.varlen_attn
    has_flag = "enable_gqa" in inspect.signature(flash).parameters
    out: Tensor = flash(
        rows(query),
        rows(key).index_select(0, sequences.source),
        rows(value).index_select(0, sequences.source),
        sequences.queries,
        sequences.keys,
        sequences.longest_query,
        sequences.longest_key,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        **({"enable_gqa": query.shape[1] != key.shape[1]} if has_flag else {}),
    )
    return out.transpose(0, 1)[None]
