"""Batch layouts: completions with shared prompts in a single row without padding, or one padded row per completion.

Shared: groups of completions with a common prompt follow one another in a single row,
`[prompt | answer | answer | ...][prompt | answer | ...]`. A prompt is computed once, nothing is padded, and each answer
attends to its own prompt and itself (`kernels/attention.py`). Positions of every answer continue those of its prompt.
Plain: one row `[prompt | answer]` per completion, padded on the right, rows of similar length in one batch; works with any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.policy.kernels.attention import Group, SharedRow
from lab.policy.kernels.device_copy import copy_to_device

WASTE = 1.25
"""Plain rows are split into batches of similar length where padding would make a batch larger than this many times its tokens."""


class PromptTokens(tuple[int, ...]):
    """Token ids of a prompt that are hashed once, so that every batch groups its answers by prompt without reading it again."""

    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = super().__hash__()
            return self._hash


@dataclass(frozen=True)
class PromptAnswer:
    """A prompt and an answer that follows it, as token ids.

    untrained: Spans (first, last + 1) of the answer that are given and not trained on, such as what a tool returned.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    untrained: tuple[tuple[int, int], ...] = ()

    @property
    def prompt_key(self) -> tuple[int, ...]:
        """The prompt as a key to group answers by; answers that were encoded together share it."""
        return self.prompt if isinstance(self.prompt, tuple) else tuple(self.prompt)


@dataclass(frozen=True, eq=False)
class Batch:
    """Input of one forward pass, and the positions at which the log-probs of its M completion tokens are read.

    ids:            [R, L] token ids.
    positions:      [1, L], of a shared row; else None.
    attention_mask: [R, L] of 0 and 1; None for a shared row, whose attention `shared` defines.
    reads:          [M], index of the hidden state, among R * L, that predicts a token.
    targets:        [M], id of that token.
    row, column:    [M], number of the completion, and of the token within it.
    completions:    Numbers of the completions, in the order of the batch.
    spans:          (first, last + 1) hidden state of each completion's own tokens, in that order.
    """

    ids: Tensor
    positions: Tensor | None
    attention_mask: Tensor | None
    shared: SharedRow | None
    reads: Tensor
    targets: Tensor
    row: Tensor
    column: Tensor
    completions: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def check(completions: Sequence[PromptAnswer]) -> None:
    """Raise ValueError for an empty prompt or answer."""
    for number, c in enumerate(completions):
        if not c.prompt or not c.answer:
            raise ValueError(
                f"Completion {number} has an empty {'answer' if c.prompt else 'prompt'}; both need at least one token."
            )


def shared(
    completions: Sequence[PromptAnswer], device: torch.device, *, last_state: bool = False, kernel: str = "grouped"
) -> Batch:
    """Lay out completions as one row [1, N] that contains every prompt once.

    Args:
        completions: Prompts and answers.
        device: Of the batch's tensors.
        last_state: Also compute the state of each answer's last token, which predicts nothing (SPO's degree head reads it).
        kernel: Attention kernel, one of `attention.KERNELS`.
    """
    together: dict[tuple[int, ...], list[int]] = {}
    for number, completion in enumerate(completions):
        together.setdefault(completion.prompt_key, []).append(number)
    ids: list[int] = []
    positions: list[int] = []
    groups: list[Group] = []
    spans: dict[int, tuple[int, int]] = {}
    reads: list[int] = []
    for prompt, members in together.items():
        end_of_prompt = len(ids) + len(prompt) - 1
        ids += prompt
        positions += range(len(prompt))
        lengths = []
        for number in members:
            answer = completions[number].answer
            inputs = answer if last_state else answer[:-1]
            # The state at a token predicts the next one, so an answer's first token is predicted at the prompt's last.
            reads += [end_of_prompt, *range(len(ids), len(ids) + len(answer) - 1)]
            spans[number] = (len(ids), len(ids) + len(inputs))
            ids += inputs
            positions += range(len(prompt), len(prompt) + len(inputs))
            lengths.append(len(inputs))
        groups.append(Group(len(prompt), tuple(lengths)))
    order = [number for members in together.values() for number in members]
    return Batch(
        ids=copy_to_device([ids], device),
        positions=copy_to_device([positions], device),
        attention_mask=None,
        shared=SharedRow(tuple(groups), device, kernel),
        **_targets(completions, order, reads, device),
        completions=tuple(order),
        spans=tuple(spans[number] for number in order),
    )


def plain(
    completions: Sequence[PromptAnswer], device: torch.device, *, pad_id: int, together: bool = False, single: bool = False
) -> list[Batch]:
    """Lay out completions as batches of rows [prompt | answer], padded on the right; rows of similar length share a batch.

    Args:
        completions: Prompts and answers.
        device: Of the batches' tensors.
        pad_id: Token id of the padding.
        together: Make one batch, whatever the padding; needed where several processes must run equally many forward passes.
        single: Make a batch for every row.
    """
    if single:
        return [_plain(completions, [number], device, pad_id) for number in range(len(completions))]
    if together:
        return [_plain(completions, range(len(completions)), device, pad_id)]
    order = sorted(range(len(completions)), key=lambda i: len(completions[i].prompt) + len(completions[i].answer))
    buckets: list[list[int]] = []
    tokens = 0
    for number in order:
        length = len(completions[number].prompt) + len(completions[number].answer)
        if not buckets or (len(buckets[-1]) + 1) * length > WASTE * (tokens + length):
            buckets.append([])
            tokens = 0
        buckets[-1].append(number)
        tokens += length
    return [_plain(completions, bucket, device, pad_id) for bucket in buckets]


def _plain(completions: Sequence[PromptAnswer], order: Sequence[int], device: torch.device, pad_id: int) -> Batch:
    rows = [[*completions[i].prompt, *completions[i].answer] for i in order]
    width = max(len(row) for row in rows)
    starts = [place * width + len(completions[i].prompt) for place, i in enumerate(order)]
    lengths = [len(completions[i].answer) for i in order]
    reads = [index for start, length in zip(starts, lengths) for index in range(start - 1, start + length - 1)]
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return Batch(
        ids=torch.tensor([row + [pad_id] * (width - len(row)) for row in rows], device=device),
        positions=None,
        attention_mask=mask,
        shared=None,
        **_targets(completions, order, reads, device),
        completions=tuple(order),
        spans=tuple((start, start + length) for start, length in zip(starts, lengths)),
    )


def _targets(
    completions: Sequence[PromptAnswer], order: Sequence[int], reads: list[int], device: torch.device
) -> dict[str, Tensor]:
    columns = {
        "reads": reads,
        "targets": [token for number in order for token in completions[number].answer],
        "row": [number for number in order for _ in completions[number].answer],
        "column": [place for number in order for place in range(len(completions[number].answer))],
    }
    return {name: copy_to_device(values, device) for name, values in columns.items()}
