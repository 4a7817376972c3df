"""How completions are laid out as the model's input: behind shared prompts in one row without padding, or a row each.

Shared: all groups of completions that have a prompt in common stand one behind the other in a single row,
`[prompt | answer | answer | ...][prompt | answer | ...]`. A prompt is computed once, nothing is padded, and each answer
attends to its own prompt and itself (`attention.py`). Positions start again behind each prompt.
Plain: one row `[prompt | answer]` per completion, padded on the right, rows of like length in one batch; any model can take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.policy.kernels.attention import Group, SharedRow
from lab.policy.kernels.device_copy import copy_to_device

WASTE = 1.25
"""Plain rows are split into batches of like length where padding would make a batch this much larger than its tokens."""


@dataclass(frozen=True)
class PromptAnswer:
    """One answer behind one prompt, as token ids."""

    prompt: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True, eq=False)
class Batch:
    """Input of one forward pass, and where in its output the completions are read.

    ids: [R, L].   attention_mask: [R, L] of 0 and 1; a shared row has positions [1, L] instead, and `shared` says who sees whom.
    M tokens are predicted: reads [M] index the R * L states, targets [M] are the token ids, and the log-prob found belongs to
    token `column` [M] of completion `row` [M]. spans: (first, last + 1) of each completion's own states.
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
    """Raises ValueError for an empty prompt or answer."""
    for number, c in enumerate(completions):
        if not c.prompt or not c.answer:
            raise ValueError(
                f"Completion {number} has an empty {'answer' if c.prompt else 'prompt'}; both need at least one token."
            )


def shared(
    completions: Sequence[PromptAnswer], device: torch.device, *, last_state: bool = False, kernel: str = "grouped"
) -> Batch:
    """One row [1, N] that holds every prompt once.

    last_state: also compute the state of each answer's last token, which predicts nothing (a degree head may read it).
    kernel:     how attention is computed; see `attention.KERNELS`.
    """
    together: dict[tuple[int, ...], list[int]] = {}
    for number, completion in enumerate(completions):
        together.setdefault(tuple(completion.prompt), []).append(number)
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
            # The state at a token predicts the next: the first of an answer is predicted by the prompt's last.
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
    """Batches of rows [prompt | answer], padded on the right; completions of like length share a batch.

    together: one batch, whatever the padding: several processes have to make as many forward passes each.
    single: a batch for every row.
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
    found = {
        "reads": reads,
        "targets": [token for number in order for token in completions[number].answer],
        "row": [number for number in order for _ in completions[number].answer],
        "column": [place for number in order for place in range(len(completions[number].answer))],
    }
    return {name: copy_to_device(values, device) for name, values in found.items()}
