"""Text to token ids: the prompt and the answer are encoded apart, so that the boundary between them never moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Prompt = str | Sequence[dict[str, str]]
"""Plain text, or the messages of a conversation (role, content)."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of one answer behind its prompt. `prompt_cut` and `answer_cut` count the tokens that did not fit."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    prompt_cut: int = 0
    answer_cut: int = 0


@dataclass(frozen=True)
class Encoder:
    """Encodes prompts and answers for one tokenizer.

    A row is [BOS] prompt answer EOS: exactly one BOS where the tokenizer has one, one EOS at the end of a whole answer.
    max_length: tokens of prompt and answer together. A prompt that does not fit is cut from the left (BOS stays);
    an answer is cut only when it alone is too long, then without EOS, and `answer_cut` says by how much.
    """

    tokenizer: Any
    max_length: int = 1024

    def __call__(self, prompt: Prompt, answer: str) -> Encoded:
        """Raises ValueError for a conversation where the tokenizer has no chat template."""
        prompt_text, answer_text = self._texts(prompt, answer)
        prompt_ids = self._with_bos(self._ids(prompt_text))
        answer_ids = self._with_eos(self._ids(answer_text))
        room_for_answer = self.max_length - min(len(prompt_ids), 8)
        answer_cut = max(len(answer_ids) - room_for_answer, 0)
        answer_ids = answer_ids[: len(answer_ids) - answer_cut]
        prompt_cut = max(len(prompt_ids) + len(answer_ids) - self.max_length, 0)
        if prompt_cut:
            bos = prompt_ids[:1] if self.tokenizer.bos_token_id is not None else []
            prompt_ids = bos + prompt_ids[prompt_cut + len(bos) :]
        return Encoded(tuple(prompt_ids), tuple(answer_ids), prompt_cut, answer_cut)

    def prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt alone, ready to be continued; cut from the left to half of `max_length`."""
        ids = self._with_bos(self._ids(self._prompt_text(prompt)))
        limit = max(self.max_length // 2, 8)
        if len(ids) <= limit:
            return ids
        return ids[:1] + ids[len(ids) - limit + 1 :] if self.tokenizer.bos_token_id is not None else ids[-limit:]

    def _prompt_text(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        self._check_template()
        return self.tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)

    def _texts(self, prompt: Prompt, answer: str) -> tuple[str, str]:
        before = self._prompt_text(prompt)
        if isinstance(prompt, str):
            return before, answer
        whole = self.tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": answer}], tokenize=False, add_generation_prompt=False
        )
        # Some templates rewrite the last turn (they drop its reasoning, say); then the answer stands alone.
        return before, whole[len(before) :] if whole.startswith(before) else answer

    def _check_template(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ValueError(
                "These pairs are conversations, but the model's tokenizer has no chat template; "
                "use an instruction-tuned model, or give the prompts as plain text."
            )

    def _ids(self, text: str) -> list[int]:
        try:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        except TypeError:
            raise ValueError(
                f"No tokenizer can read {text[:40]!a}: it holds half of a character (a lone surrogate); edit that pair."
            ) from None

    def _with_bos(self, ids: list[int]) -> list[int]:
        bos = self.tokenizer.bos_token_id
        if bos is None or (ids and ids[0] == bos):
            return ids
        return [bos, *ids]

    def _with_eos(self, ids: list[int]) -> list[int]:
        eos = self.tokenizer.eos_token_id
        if eos is None:
            return ids
        # A template may close the turn itself, often with a line break after it that nobody ever samples.
        tail = ids[-3:]
        if eos in tail:
            return ids[: len(ids) - len(tail) + tail.index(eos) + 1]
        return [*ids, eos]
