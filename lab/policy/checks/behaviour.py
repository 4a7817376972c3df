"""Try a model on a few short texts: is it causal, and do completions of a batch affect one another?"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lab.policy import layout
from lab.policy.layout import PromptAnswer
from lab.policy.logps import Head, whole_head
from lab.policy.memory import out_of_memory
from lab.policy.policy import Policy

from .arbitrary_row import AMPLIFIED, round_once_more

EXACT = 1e-5
"""Largest difference (nats) of a log-prob computed in two ways in float32 that rounding always explains. Measured: up to 1e-6 with
60 random models whose logits vary by a few units."""
HALF, FEW, MEAN = 0.1, 1.0, 2e-2
"""Largest differences (nats) in half precision: of any token; of a few tokens, if the mean over tokens is at most the third value.
Measured: at most 0.06, with a mean of 0.001, with the world's model; differences grow with depth."""
LENGTHS = (12, 12, 9, 6, 10)
"""Tokens of the trial: a prompt, its two answers, another prompt, its answer."""

LONG = 512
"""Tokens of texts for parts of a model that short texts do not reach, such as the compression of blocks of 128 tokens."""


@dataclass(frozen=True)
class Change:
    """The completions of a trial with some answers changed from their middle on.

    kept: [3, T] bool, the tokens whose log-probs must stay the same.
    """

    completions: tuple[PromptAnswer, ...]
    kept: Tensor


@dataclass(frozen=True)
class Trial:
    """Short texts made of tokens of the run's completions: two answers to one prompt, and one answer to another."""

    completions: tuple[PromptAnswer, ...]
    changes: tuple[Change, ...]

    @property
    def row(self) -> list[int]:
        """Token ids of the longest text."""
        return [*self.completions[0].prompt, *self.completions[0].answer]


def make_trial(policy: Policy, completions: Sequence[PromptAnswer], *, seed: int = 0) -> Trial:
    """Make the trial of a model from random tokens of these completions."""
    special = {int(number) for number in getattr(policy.tokenizer, "all_special_ids", [])}
    ids = sorted({number for c in completions for number in (*c.prompt, *c.answer)} - special)
    ids += [number for number in range(min(policy.vocabulary, 64)) if number not in special and number not in ids][
        : max(0, 8 - len(ids))
    ]
    rng = random.Random(seed)
    room = min(1.0, policy.positions / (LENGTHS[0] + LENGTHS[1]))
    lengths = [max(1, int(length * room)) for length in LENGTHS]
    prompts = [rng.choices(ids, k=lengths[0]), rng.choices(ids, k=lengths[3])]
    answers = ((0, lengths[1]), (0, lengths[2]), (1, lengths[4]))
    own = tuple(PromptAnswer(tuple(prompts[p]), tuple(rng.choices(ids, k=count))) for p, count in answers)
    width = max(len(c.answer) for c in own)

    def change(numbers: Sequence[int]) -> Change:
        kept = torch.zeros(len(own), width, dtype=torch.bool)
        for number, c in enumerate(own):
            kept[number, : len(c.answer) // 2 if number in numbers else len(c.answer)] = True
        return Change(tuple(_other_end(c, ids) if n in numbers else c for n, c in enumerate(own)), kept)

    return Trial(own, (change((0,)), change((1, 2))))


def longer_texts(policy: Policy, trial: Trial) -> tuple[PromptAnswer, ...]:
    """Make two answers to a long prompt; prompt and answer have LONG tokens, or as many as the model has positions."""
    rng, ids = random.Random(0), sorted(set(trial.row))
    total = min(policy.positions, LONG)
    prompt = tuple(rng.choices(ids, k=max(1, total // 2)))
    return tuple(PromptAnswer(prompt, tuple(rng.choices(ids, k=max(1, total - total // 2)))) for _ in range(2))


def _other_end(completion: PromptAnswer, ids: Sequence[int]) -> PromptAnswer:
    """Replace every token from the middle of the answer on."""
    middle = len(completion.answer) // 2
    return replace(completion, answer=(*completion.answer[:middle], *(_other(token, ids) for token in completion.answer[middle:])))


def _other(token: int, ids: Sequence[int]) -> int:
    return ids[(ids.index(token) + 1 + len(ids) // 3) % len(ids)] if token in ids else ids[0]


class Rounding:
    """Differences of a model's log-probs (nats) that rounding explains."""

    def __init__(self, policy: Policy, completions: Sequence[PromptAnswer]) -> None:
        self.policy, self.completions = policy, completions
        parameter = next((p for p in policy.model.parameters() if p.is_floating_point()), None)
        kind = policy.autocast or (parameter.dtype if parameter is not None else torch.float32)
        self.half = torch.finfo(kind).eps > 1e-6
        self._noise: float | None = None

    def explains(self, apart: Tensor) -> bool:
        """Return whether rounding explains these differences of log-probs; False where one is NaN."""
        if not apart.numel():
            return True
        largest = float(apart.max())
        if self.half:
            return largest <= HALF or (largest <= FEW and float(apart.mean()) <= MEAN)
        return largest <= EXACT or largest <= AMPLIFIED * self.noise

    @property
    def noise(self) -> float:
        """Change of the model's log-probs (nats) when its input embeddings are rounded once more; measured at first use."""
        if self._noise is None:
            with self.policy.evaluating(), self.policy.as_loaded():
                exact = self.policy.logps(self.completions)
                handle = self.policy.model.get_input_embeddings().register_forward_hook(round_once_more)
                try:
                    rounded = self.policy.logps(self.completions)
                finally:
                    handle.remove()
            self._noise = float((rounded.logps - exact.logps).abs().max())
        return self._noise


def logits(policy: Policy, row: Sequence[int], head: Head | None = None) -> Tensor:
    """Compute the logits [L, V] of one text, float32, with this head or with the model's own; call it inside `as_loaded`."""
    device = policy.model.get_input_embeddings().weight.device
    (batch,) = layout.plain([PromptAnswer(row[:-1], row[-1:])], device, pad_id=policy.pad_id)
    head = head or whole_head(policy.model)
    with policy.precision():
        return head.project(head.hidden(batch)[0]).float()


def moved_by_later_tokens(policy: Policy, trial: Trial, rounding: Rounding) -> float:
    """Return how much (nats) log-probs of earlier tokens change when the last token of a text, or its second half, is changed.

    0 where rounding explains the change, as in every causal model.
    """
    ids, row = sorted(set(trial.row)), trial.row
    base, most = logits(policy, row).log_softmax(-1), 0.0
    for first in (len(row) - 1, len(row) // 2):
        if first < 1:
            continue
        changed = [*row[:first], *(_other(token, ids) for token in row[first:])]
        apart = (logits(policy, changed).log_softmax(-1) - base)[:first].abs()
        if not (float(apart.max()) <= EXACT or rounding.explains(apart.amax(-1))):
            most = max(most, float(apart.nan_to_num(torch.inf).max()))
    return most


def leak(
    policy: Policy, trial: Trial, rounding: Rounding, base: Tensor, compute: Callable[[Sequence[PromptAnswer]], Tensor]
) -> float:
    """Return how much (nats) log-probs of the trial change when other completions or later tokens are changed; 0 for no leak.

    Shapes are the same, so log-probs stay the same to the bit, except where experts get other numbers of tokens. For changes as
    small as rounding the gradient decides whether one completion reads another.

    Args:
        policy: In the layout that is checked.
        trial: Its completions and changes.
        rounding: Tolerance.
        base: [3, T], log-probs of the trial itself.
        compute: Computes log-probs of changed completions in the same layout.
    """
    for change in trial.changes:
        kept = change.kept.to(base.device)
        apart = (compute(change.completions) - base).abs()[kept]
        if float(apart.max()) <= EXACT:
            continue
        if not rounding.explains(apart) or _gradient_crosses(policy, trial.completions):
            return float(apart.nan_to_num(torch.inf).max())
    return 0.0


def _gradient_crosses(policy: Policy, completions: Sequence[PromptAnswer]) -> bool:
    """Return whether log-probs of a completion have a gradient with respect to the embeddings of another one's answer.

    True also where the gradient cannot be computed.
    """
    device = policy.model.get_input_embeddings().weight.device
    if policy.shared is not None:
        batch = layout.shared(completions, device, kernel=policy.shared)
    else:
        (batch,) = layout.plain(completions, device, pad_id=policy.pad_id, together=True)
    inputs: list[Tensor] = []

    def tap(module: Any, args: Any, out: Tensor) -> Tensor:
        inputs.append(out.detach().requires_grad_())
        return inputs[-1]

    handle = policy.model.get_input_embeddings().register_forward_hook(tap)
    try:
        with torch.enable_grad(), policy.precision():
            logps = policy.module(batch)[0]
        if len(inputs) != 1 or inputs[0].shape[:2] != batch.ids.shape:
            return True
        for number in batch.completions:
            (gradient,) = torch.autograd.grad(logps[batch.row == number].sum(), inputs, retain_graph=True)
            spread = gradient.flatten(0, 1)
            for other, (start, end) in zip(batch.completions, batch.spans):
                if other != number and bool(spread[start:end].any()):
                    return True
    except (RuntimeError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        return True
    finally:
        handle.remove()
    return False
