"""Sampled answers of a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lab.policy.text.encoding import Encoded, Ending, Prompt

from .layout import PromptAnswer
from .policy import Policy, without_adapter
from .randomness import global_generator, hashed_seed


@dataclass(frozen=True)
class Answer:
    """A sampled answer: its text without special tokens and end, and the token ids that were sampled behind those of its prompt.

    ended: by itself, with an end-of-sequence token or the text that closes a turn, with which `ids` end then; else it was cut.
    prompt_cut: tokens of the prompt that did not fit.
    """

    text: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    ended: bool
    prompt_cut: int = 0

    @property
    def completion(self) -> PromptAnswer:
        """For `Policy.logps`."""
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
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Answer]]:
    """`per_prompt` answers to each prompt: [prompts][per_prompt].

    Plain ancestral sampling at `temperature` (0: greedy), no top-k or top-p, whatever the model's generation_config says. The same
    seed gives the same answers, and the global generators are left as they were. A CUDA generator is seeded too. reference: of the
    policy's reference, see `Policy.reference`. progress(done, all) is called between batches, when nothing is locked or switched;
    it may raise. max_length: of prompts, see `encode_prompts`; an answer may reach behind it, as far as the model has positions.
    """
    encoder = policy.encoder(max_length)
    encoded = zip(
        encode_prompts(policy, prompts, max_new_tokens=max_new_tokens, max_length=max_length), map(encoder.ending, prompts)
    )
    rows = [(prompt, ending) for prompt, ending in encoded for _ in range(per_prompt)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0].prompt))
    found: dict[int, Answer] = {}
    devices = [policy.device] if policy.device.type == "cuda" else []
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        role = policy.reference() if reference else contextlib.nullcontext()
        with global_generator(seed ^ hashed_seed(start), devices), policy.evaluating(), policy.gathered(), role:
            found |= zip(chosen, _generate(policy, [rows[i] for i in chosen], max_new_tokens, temperature))
        if progress is not None:
            progress(min(start + batch_size, len(order)), len(order))
    return [[found[i] for i in range(first, first + per_prompt)] for first in range(0, len(rows), per_prompt)]


def encode_prompts(policy: Policy, prompts: Sequence[Prompt], *, max_new_tokens: int, max_length: int) -> list[Encoded]:
    """Prompts as `sample` asks them: as long as training has them, unless the model has too few positions for `max_new_tokens`
    behind them. Then they make way for the answer, down to half of the positions."""
    encoder = policy.encoder(max_length)
    most = max(policy.positions - max_new_tokens, policy.positions // 2)
    return [encoder.prompt(prompt, most) for prompt in prompts]


def sample_answers(policy: Policy, prompts: Sequence[Prompt], **how: Any) -> list[list[str]]:
    """The texts of `sample`, with the same arguments: [prompts][per_prompt]."""
    return [[answer.text for answer in answers] for answers in sample(policy, prompts, **how)]


Row = tuple[Encoded, Ending]

WAYS = ((True, True), (False, True), (False, False))
"""How a batch is generated, the fastest first: with prompts of different lengths padded, with a cache of what was read."""
WATCHED = 4
"""Tokens of a batch whose probabilities are compared with those that the model gives the row by itself."""
ROUNDING, COARSE = 1e-3, 0.1
"""Largest part of the probability (total variation) that may lie elsewhere: in float32, and in coarser types."""


def _generate(policy: Policy, chosen: Sequence[Row], max_new_tokens: int, temperature: float) -> list[Answer]:
    """An answer to each prompt, in the fastest way in which the model draws from the same probabilities as from a row alone.

    Some models read the padding (RWKV), and a faulty cache changes the later tokens; their answers would not be the policy's.
    """
    while True:
        padded, _ = WAYS[policy.sampling_way]
        lengths = sorted({len(one.prompt) for one, _ in chosen})
        groups = [lengths] if padded else [[length] for length in lengths]
        answers: dict[int, Answer] = {}
        for group in groups:
            places = [number for number, (one, _) in enumerate(chosen) if len(one.prompt) in group]
            given = _batch(policy, [chosen[i] for i in places], max_new_tokens, temperature)
            if given is None:
                break
            answers |= zip(places, given)
        else:
            return [answers[number] for number in range(len(chosen))]
        policy.sampling_way += 1


def _batch(policy: Policy, chosen: Sequence[Row], max_new_tokens: int, temperature: float) -> list[Answer] | None:
    """An answer to each prompt; None where the model gave other probabilities than to a row by itself."""
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    rows, endings = [one.prompt for one, _ in chosen], [ending for _, ending in chosen]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), policy.pad_id)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):  # padded on the left: generation continues at the right edge
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
    ends = sorted({end for ending in endings for end in ending.ids})
    drawn: dict[str, Any] = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}
    plain = GenerationConfig(
        max_new_tokens=min(max_new_tokens, policy.positions - width),
        do_sample=temperature > 0,
        pad_token_id=policy.pad_id,
        eos_token_id=ends,
        use_cache=WAYS[policy.sampling_way][1],
        **drawn,
    )
    watch = _Watch(min(range(len(rows)), key=lambda number: len(rows[number])))
    stop = _TextEnds(policy.tokenizer, endings, width)
    with _without_habits(policy), policy.precision():
        out = policy.model.generate(
            input_ids=ids.to(policy.device),
            attention_mask=mask.to(policy.device),
            generation_config=plain,
            stopping_criteria=StoppingCriteriaList([stop] if stop.any else []),
            logits_processor=LogitsProcessorList([watch]),
        )
        if policy.sampling_way + 1 < len(WAYS) and not watch.agrees(policy, rows[watch.row], out[watch.row, width:]):
            return None
    answers = []
    for number, (one, ending) in enumerate(chosen):
        sampled = out[number, width:].tolist()
        by_token = next((i + 1 for i, token in enumerate(sampled) if token in ends), None)
        by_text = stop.position(number, sampled[:by_token])
        kept = sampled[: by_text or by_token]
        ended = {"by_token": by_token is not None and by_text is None, "by_text": by_text is not None}
        text = _text(policy.tokenizer, kept, ending, **ended)
        answers.append(Answer(text, one.prompt, tuple(kept), any(ended.values()), one.prompt_cut))
    return answers


@contextlib.contextmanager
def _without_habits(policy: Policy) -> Iterator[None]:
    """Inside, the model has no generation_config of its own: `generate` would fill in from it whatever it was not told, and answers
    would not be the policy's own."""
    from transformers import GenerationConfig

    model = without_adapter(policy.model)
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


class _Watch:
    """Keeps the logits of a row's first tokens as `generate` has them; a logits processor that changes nothing."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.logits: list[torch.Tensor] = []

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(self.logits) < WATCHED:
            self.logits.append(scores[self.row].float())
        return scores

    def agrees(self, policy: Policy, prompt: Sequence[int], sampled: torch.Tensor) -> bool:
        """Whether the model gives the same probabilities to the row by itself, read at once."""
        steps = len(self.logits)
        alone = torch.cat([torch.tensor(prompt, device=sampled.device), sampled[: steps - 1]])[None]
        own = policy.model(input_ids=alone, attention_mask=torch.ones_like(alone), use_cache=False).logits[0, -steps:]
        apart = (torch.stack(self.logits).softmax(-1) - own.float().softmax(-1)).abs().sum(-1).max() / 2
        exact = policy.autocast is None and own.dtype == torch.float32
        return not float(apart) > (ROUNDING if exact else COARSE)


class _TextEnds:
    """Ends that are no single token: a row ends with the token that completes its text. A criterion for `generate`."""

    def __init__(self, tokenizer: Any, endings: Sequence[Ending], width: int) -> None:
        self.tokenizer, self.endings, self.width = tokenizer, endings, width
        self.any = any(ending.text for ending in endings)

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        ended = [self._complete(number, row) for number, row in enumerate(ids[:, self.width :].tolist())]
        return torch.tensor(ended, device=ids.device)

    def position(self, number: int, sampled: list[int]) -> int | None:
        """How many sampled tokens of a row its end completes; None where it did not end by text."""
        return next((n for n in range(1, len(sampled) + 1) if self._complete(number, sampled[:n])), None)

    def _complete(self, number: int, sampled: list[int]) -> bool:
        text = self.endings[number].text
        tail = sampled[-len(text.encode()) - 4 :]  # every token is a byte or more; a character may have begun before
        return bool(text) and text in self.tokenizer.decode(tail)


def _text(tokenizer: Any, ids: list[int], ending: Ending, *, by_token: bool, by_text: bool) -> str:
    """What an answer says: without special tokens, its end, and what the chat template writes around every answer."""
    text = tokenizer.decode(ids[:-1] if by_token else ids, skip_special_tokens=True)
    if by_text:
        text = text.partition(ending.text)[0]
    if by_token or by_text:
        text = text.removesuffix(ending.behind)
    return text.removeprefix(ending.lead)
