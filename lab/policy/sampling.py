"""Sampled answers of a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .layout import Completion
from .policy import Policy
from .randomness import global_generator, spread
from .tokens import Encoded, Prompt


@dataclass(frozen=True)
class Answer:
    """A sampled answer: its text without special tokens, and its token ids behind those of its prompt.

    ended: by itself, with an end-of-sequence token, which is the last of `ids` then; else it was cut.
    prompt_cut: tokens of the prompt that did not fit.
    """

    text: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    ended: bool
    prompt_cut: int = 0

    @property
    def completion(self) -> Completion:
        """For `Policy.logps`."""
        return Completion(self.prompt, self.ids)


def sample(
    policy: Policy,
    prompts: Sequence[Prompt],
    *,
    per_prompt: int = 1,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 128,
    max_length: int = 1024,
    reference: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Answer]]:
    """`per_prompt` answers to each prompt: [prompts][per_prompt].

    Plain ancestral sampling at `temperature` (0: greedy), no top-k or top-p. The same seed gives the same answers, and the
    global generators are left as they were. A CUDA generator is seeded too. reference: of the policy's reference, see
    `Policy.reference`. progress(done, all) is called between batches, when nothing is locked or switched; it may raise.
    max_length: of prompts, see `asked`; an answer may reach behind it, as far as the model has positions.
    """
    ends = policy.encoder(max_length).ends
    encoded = asked(policy, prompts, max_new_tokens=max_new_tokens, max_length=max_length)
    rows = [prompt for prompt in encoded for _ in range(per_prompt)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt))
    found: dict[int, Answer] = {}
    devices = [policy.device] if policy.device.type == "cuda" else []
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        role = policy.reference() if reference else contextlib.nullcontext()
        with global_generator(seed ^ spread(start), devices), policy.evaluating(), policy.gathered(), role:
            found |= zip(chosen, _generate(policy, [rows[i] for i in chosen], ends, max_new_tokens, temperature))
        if progress is not None:
            progress(min(start + batch_size, len(order)), len(order))
    return [[found[i] for i in range(first, first + per_prompt)] for first in range(0, len(rows), per_prompt)]


def asked(policy: Policy, prompts: Sequence[Prompt], *, max_new_tokens: int, max_length: int) -> list[Encoded]:
    """Prompts as `sample` asks them: as long as training has them, unless the model has too few positions for `max_new_tokens`
    behind them. Then they make way for the answer, down to half of the positions."""
    encoder = policy.encoder(max_length)
    most = max(policy.positions - max_new_tokens, policy.positions // 2)
    return [encoder.prompt(prompt, most) for prompt in prompts]


PLAIN: dict[str, Any] = {"repetition_penalty": 1.0, "typical_p": 1.0, "min_p": None, "no_repeat_ngram_size": 0, "num_beams": 1}
"""Published models bring sampling habits of their own in their generation_config; their answers would not be the policy's own."""


def sample_answers(policy: Policy, prompts: Sequence[Prompt], **how: Any) -> list[list[str]]:
    """The texts of `sample`, with the same arguments: [prompts][per_prompt]."""
    return [[answer.text for answer in answers] for answers in sample(policy, prompts, **how)]


def _generate(
    policy: Policy, encoded: Sequence[Encoded], ends: Sequence[int], max_new_tokens: int, temperature: float
) -> list[Answer]:
    rows = [one.prompt for one in encoded]
    width = max(len(row) for row in rows)
    max_new_tokens = min(max_new_tokens, policy.positions - width)
    ids = torch.full((len(rows), width), policy.pad_id)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):  # padded on the left: generation continues at the right edge
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {"do_sample": False}
    )
    out = policy.model.generate(
        input_ids=ids.to(policy.device),
        attention_mask=mask.to(policy.device),
        max_new_tokens=max_new_tokens,
        pad_token_id=policy.pad_id,
        eos_token_id=list(ends),
        **sampling,
        **PLAIN,
    )
    answers = []
    for one, sampled in zip(encoded, out[:, width:].tolist()):
        end = next((i for i, token in enumerate(sampled) if token in ends), None)
        kept = sampled if end is None else sampled[: end + 1]
        text = policy.tokenizer.decode(kept, skip_special_tokens=True)
        answers.append(Answer(text, one.prompt, tuple(kept), end is not None, one.prompt_cut))
    return answers
