"""Sample answers from a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lab.policy.text.encoding import Encoded, Ending, Prompt

from .interruption import CountProgress
from .layout import PromptAnswer
from .policy import Policy, without_adapter
from .randomness import global_generator, hashed_seed


@dataclass(frozen=True)
class Answer:
    """A sampled answer.

    text:       Without special tokens and without the end of the turn.
    prompt:     Token ids of the prompt.
    ids:        Sampled token ids, including those that end the answer.
    ended:      Whether it ended with an end-of-sequence token or the text that closes a turn; False where it reached the
    token limit.
    prompt_cut: Tokens of the prompt that did not fit.
    """

    text: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    ended: bool
    prompt_cut: int = 0

    @property
    def completion(self) -> PromptAnswer:
        """Prompt and answer as input of `Policy.logps`."""
        return PromptAnswer(self.prompt, self.ids)


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
    progress: CountProgress | None = None,
) -> list[list[Answer]]:
    """Sample `per_prompt` answers to each prompt; returns [prompts][per_prompt].

    Ancestral sampling without top-k and top-p; the model's generation_config is ignored. The same seed gives the same answers,
    and global generators are restored.

    Args:
        policy: The model.
        prompts: Plain texts or conversations.
        per_prompt: Answers per prompt.
        max_new_tokens: Token limit of an answer.
        temperature: 0 for greedy decoding.
        seed: Of the draws.
        batch_size: Answers generated at a time.
        max_length: Token limit of prompts, as in `encode_prompts`; an answer may exceed it, up to the model's positions.
        reference: Sample from the policy's reference instead (see `Policy.reference`).
        progress: Called between batches, outside all locks.
    """
    encoder = policy.encoder(max_length)
    encoded = zip(
        encode_prompts(policy, prompts, max_new_tokens=max_new_tokens, max_length=max_length), map(encoder.ending, prompts)
    )
    rows = [(prompt, ending) for prompt, ending in encoded for _ in range(per_prompt)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0].prompt))
    answers: dict[int, Answer] = {}
    devices = [policy.device] if policy.device.type == "cuda" else []
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        role = policy.reference() if reference else contextlib.nullcontext()
        own = seed ^ hashed_seed(start)
        draw = _Draw(temperature, own) if temperature > 0 else None
        with global_generator(own, devices), policy.evaluating(), policy.gathered(), role:
            answers |= zip(chosen, _generate(policy, [rows[i] for i in chosen], max_new_tokens, draw))
        if progress is not None:
            progress(min(start + batch_size, len(order)), len(order))
    return [[answers[i] for i in range(first, first + per_prompt)] for first in range(0, len(rows), per_prompt)]


def encode_prompts(policy: Policy, prompts: Sequence[Prompt], *, max_new_tokens: int, max_length: int) -> list[Encoded]:
    """Encode prompts for sampling, at most `max_length` tokens each.

    Where the model has too few positions for `max_new_tokens` more, a prompt is cut further, down to half of the positions.
    """
    encoder = policy.encoder(max_length)
    most = max(policy.positions - max_new_tokens, policy.positions // 2)
    return [encoder.prompt(prompt, most) for prompt in prompts]


def sample_answers(policy: Policy, prompts: Sequence[Prompt], **how: Any) -> list[list[str]]:
    """Sample answers as `sample` does and return their texts: [prompts][per_prompt]."""
    return [[answer.text for answer in answers] for answers in sample(policy, prompts, **how)]


Row = tuple[Encoded, Ending]

WAYS = ((True, True), (False, True), (False, False))
"""(prompts of different lengths padded, key-value cache): ways to generate a batch, the fastest first."""
COMPARED_TOKENS = 4
"""Tokens of a batch whose probabilities are compared with those of a forward pass of the row alone."""
ROUNDING, COARSE = 1e-3, 0.1
"""Largest total variation distance of the two distributions that rounding explains: in float32, and in half precision."""


def _generate(policy: Policy, chosen: Sequence[Row], max_new_tokens: int, draw: _Draw | None) -> list[Answer]:
    """Generate an answer to each prompt in the fastest of `WAYS` that gives the probabilities of a forward pass of the row alone.

    Some models read the padding (RWKV), and a faulty cache changes later tokens; such answers are not samples of the policy.
    """
    while True:
        padded, _ = WAYS[policy.sampling_way]
        lengths = sorted({len(encoded.prompt) for encoded, _ in chosen})
        groups = [lengths] if padded else [[length] for length in lengths]
        answers: dict[int, Answer] = {}
        for group in groups:
            places = [number for number, (encoded, _) in enumerate(chosen) if len(encoded.prompt) in group]
            generated = _batch(policy, [chosen[i] for i in places], max_new_tokens, draw)
            if generated is None:
                break
            answers |= zip(places, generated)
        else:
            return [answers[number] for number in range(len(chosen))]
        policy.sampling_way += 1


def _batch(policy: Policy, chosen: Sequence[Row], max_new_tokens: int, draw: _Draw | None) -> list[Answer] | None:
    """Generate an answer to each prompt in one batch; None where probabilities differ from those of a row alone.

    draw: Draws the tokens; None for the likeliest.
    """
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    rows, endings = [encoded.prompt for encoded, _ in chosen], [ending for _, ending in chosen]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), policy.pad_id)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):  # padded on the left: generation continues at the right edge
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
    ends = sorted({end for ending in endings for end in ending.ids})
    plain = GenerationConfig(
        max_new_tokens=min(max_new_tokens, policy.positions - width),
        do_sample=False,  # the drawn token is the likeliest that `draw` leaves
        pad_token_id=policy.pad_id,
        eos_token_id=ends,
        use_cache=WAYS[policy.sampling_way][1],
    )
    recorder = _LogitsRecorder(min(range(len(rows)), key=lambda number: len(rows[number])))
    stop = _TextEnds(policy.tokenizer, endings, width)
    with _without_generation_config(policy), policy.precision():
        out = policy.model.generate(
            input_ids=ids.to(policy.device),
            attention_mask=mask.to(policy.device),
            generation_config=plain,
            stopping_criteria=StoppingCriteriaList([stop] if stop.any else []),
            logits_processor=LogitsProcessorList([recorder] if draw is None else [recorder, draw]),
        )
        if policy.sampling_way + 1 < len(WAYS) and not recorder.agrees(policy, rows[recorder.row], out[recorder.row, width:]):
            return None
    answers = []
    for number, (encoded, ending) in enumerate(chosen):
        sampled = out[number, width:].tolist()
        by_token = next((i + 1 for i, token in enumerate(sampled) if token in ends), None)
        by_text = stop.position(number, sampled[:by_token])
        kept = sampled[: by_text or by_token]
        ended = {"by_token": by_token is not None and by_text is None, "by_text": by_text is not None}
        text = _text(policy.tokenizer, kept, ending, **ended)
        answers.append(Answer(text, encoded.prompt, tuple(kept), any(ended.values()), encoded.prompt_cut))
    return answers


@contextlib.contextmanager
def _without_generation_config(policy: Policy) -> Iterator[None]:
    """Replace the model's generation_config by the default inside the block; `generate` takes every unset option from it."""
    from transformers import GenerationConfig

    model = without_adapter(policy.model)
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


class _Draw:
    """Logits processor that draws the token of each row, and gives every other token probability 0.

    The cumulative distribution is inverted at one random number per row. torch.multinomial draws one for each token of the
    vocabulary, which took a quarter of the time of sampling from a small model.

    Args:
        temperature: Above 0.
        seed: Of the draws, the same on every device.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        probabilities = (scores.float() / self.temperature).softmax(-1)
        cumulative = probabilities.cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1:]
        if not bool(total.isfinite().all()):
            raise FloatingPointError("The model's probabilities are not finite, so that no answer can be sampled from it.")
        drawn = torch.rand(len(scores), 1, dtype=torch.float64, generator=self.generator).to(scores.device) * total
        token = torch.searchsorted(cumulative, drawn, right=True).clamp_(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


class _LogitsRecorder:
    """Logits processor that records the logits of a row's first tokens and changes nothing."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.logits: list[torch.Tensor] = []

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(self.logits) < COMPARED_TOKENS:
            self.logits.append(scores[self.row].float())
        return scores

    def agrees(self, policy: Policy, prompt: Sequence[int], sampled: torch.Tensor) -> bool:
        """Return whether a forward pass of the row alone gives the same probabilities."""
        steps = len(self.logits)
        alone = torch.cat([torch.tensor(prompt, device=sampled.device), sampled[: steps - 1]])[None]
        own = policy.model(input_ids=alone, attention_mask=torch.ones_like(alone), use_cache=False).logits[0, -steps:]
        apart = (torch.stack(self.logits).softmax(-1) - own.float().softmax(-1)).abs().sum(-1).max() / 2
        exact = policy.autocast is None and own.dtype == torch.float32
        return not float(apart) > (ROUNDING if exact else COARSE)


class _TextEnds:
    """Stopping criterion for ends that are not a single token: a row ends with the token that completes its end text."""

    def __init__(self, tokenizer: Any, endings: Sequence[Ending], width: int) -> None:
        self.tokenizer, self.endings, self.width = tokenizer, endings, width
        self.any = any(ending.text for ending in endings)

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        ended = [self._complete(number, row) for number, row in enumerate(ids[:, self.width :].tolist())]
        return torch.tensor(ended, device=ids.device)

    def position(self, number: int, sampled: list[int]) -> int | None:
        """Return the number of sampled tokens up to the end text; None where the row did not end by text."""
        return next((n for n in range(1, len(sampled) + 1) if self._complete(number, sampled[:n])), None)

    def _complete(self, number: int, sampled: list[int]) -> bool:
        text = self.endings[number].text
        tail = sampled[-len(text.encode()) - 4 :]  # every token has at least one byte; a character may begin up to 3 bytes earlier
        return bool(text) and text in self.tokenizer.decode(tail)


def _text(tokenizer: Any, ids: list[int], ending: Ending, *, by_token: bool, by_text: bool) -> str:
    """Text of an answer without special tokens, its end, and the text that the chat template puts around every answer."""
    text = tokenizer.decode(ids[:-1] if by_token else ids, skip_special_tokens=True)
    if by_text:
        text = text.partition(ending.text)[0]
    if by_token or by_text:
        text = text.removesuffix(ending.behind)
    return text.removeprefix(ending.lead)
