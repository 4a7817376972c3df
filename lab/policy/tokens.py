"""Text to token ids: the prompt and the answer are encoded apart, so that the boundary between them never moves.

A row is [BOS] prompt answer EOS.

BOS    exactly one at the beginning where the tokenizer has one, whether or not the chat template writes it. (What a template
       puts between turns, such as Llama 2's <s> before every user turn, stays.)
EOS    exactly one at the end of a whole answer, none on a cut one. In a conversation it is what the chat template closes the
       assistant's turn with, also where that is not tokenizer.eos_token (Gemma: <end_of_turn>, ChatML: <|im_end|>); what
       the template writes after it, usually a line break, is left out, because nobody ever samples it.
cuts   A prompt that does not fit loses its beginning: of a conversation first the oldest turns, whole, while the system message
       stays; then tokens from the left, the system message too. BOS stays. An answer is cut only where it would not fit behind
       an eighth of `max_length` of its prompt, and `answer_cut` says by how much.
Special tokens that are written out in the texts, as in prompts that were formatted before, are read as special tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Prompt = str | Sequence[dict[str, str]]
"""Plain text, or the messages of a conversation (role, content). A last message of the assistant is the answer's beginning."""

INSTRUCTIONS = ("system", "developer")
ANCHORS = ("\n", "|", "x")


@dataclass(frozen=True)
class Encoded:
    """Token ids of one answer behind its prompt. `prompt_cut` and `answer_cut` count the tokens that did not fit."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    prompt_cut: int = 0
    answer_cut: int = 0


def answer_room(max_length: int, prompt: int) -> int:
    """Tokens that an answer may have behind a prompt of `prompt` tokens: an eighth of `max_length` (at least 8) stays for the
    prompt, or all of a shorter one."""
    return max_length - min(prompt, max(8, max_length // 8))


def enough_room(prompt: int, answer: int) -> int:
    """The least `max_length` (at least 16) that does not cut an answer of so many tokens behind such a prompt."""
    least = max(answer, 16)
    while answer_room(least, prompt) < answer:
        least += answer - answer_room(least, prompt)
    return least


@dataclass(frozen=True)
class Encoder:
    """Encodes prompts and answers for one tokenizer.

    max_length: tokens of prompt and answer together, at least 16.
    more_ends:  ids at which this model's answers end besides the tokenizer's EOS (`eos_token_id` of its generation_config).
    """

    tokenizer: Any
    max_length: int = 1024
    more_ends: tuple[int, ...] = ()

    def __call__(self, prompt: Prompt, answer: str) -> Encoded:
        """One answer behind its prompt. Raises ValueError in one sentence where the tokenizer or its template refuses the text."""
        return self.together(prompt, [answer])[0]

    def together(self, prompt: Prompt, answers: Sequence[str]) -> list[Encoded]:
        """Several answers behind one prompt, which is cut alike for all of them. Raises ValueError as for one."""
        ids = self._prompt_ids(prompt)
        room = answer_room(self.max_length, len(ids))
        whole = [self._answer_ids(prompt, answer) for answer in answers]
        kept = [self._cut(answer, room) for answer in whole]
        short = self._shortened(prompt, ids, self.max_length - max(map(len, kept)))
        return [
            Encoded(tuple(short), tuple(answer), max(len(ids) - len(short), 0), len(full) - len(answer))
            for answer, full in zip(kept, whole)
        ]

    def prompt(self, prompt: Prompt, most: int | None = None) -> Encoded:
        """A prompt alone, ready to be continued: an `Encoded` without an answer. What training can have whole is whole here too: a
        prompt is cut only where it is longer than `max_length`, or than `most` tokens."""
        ids = self._prompt_ids(prompt)
        short = self._shortened(prompt, ids, self.max_length if most is None else min(most, self.max_length))
        return Encoded(tuple(short), (), max(len(ids) - len(short), 0))

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Every id at which an answer ends: EOS, those of the model's generation_config, the end of a turn in the template."""
        eos = self.tokenizer.eos_token_id
        known = [*([] if eos is None else [eos]), *self.more_ends]
        if getattr(self.tokenizer, "chat_template", None):
            special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
            with contextlib.suppress(ValueError):  # a template that fails says so where a conversation needs it
                closing = [number for number in self._ids(self._closing) if number in special]
                if closing and not set(closing) & set(known):
                    known.append(closing[0])
        return tuple(dict.fromkeys(known))

    @cached_property
    def _closing(self) -> str:
        """What the chat template writes behind an answer."""
        answer = "answer"
        whole = self._rendered([{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}])
        return whole[whole.rfind(answer) + len(answer) :]

    # Prompts.

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        ids = self._ids(self._prompt_text(prompt))
        bos = self.tokenizer.bos_token_id
        if bos is not None:
            while ids and ids[0] == bos:
                ids = ids[1:]
            return [bos, *ids]
        if not ids:
            raise ValueError(
                f"The prompt {str(prompt)[:40]!a} gives no token with this tokenizer; write something an answer can follow."
            )
        return ids

    def _prompt_text(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        if not prompt:
            raise ValueError("The prompt is a conversation without messages; give at least one message to reply to.")
        begun = prompt[-1]["role"] == "assistant"
        return self._rendered(prompt, add_generation_prompt=not begun, continue_final_message=begun)

    def _shortened(self, prompt: Prompt, ids: list[int], room: int) -> list[int]:
        """The ids, of which at most `room` are left."""
        if not isinstance(prompt, str):
            while len(ids) > room and (prompt := _without_oldest_turn(prompt)):
                ids = self._prompt_ids(prompt)
        if len(ids) <= room:
            return ids
        first = ids[:1] if self.tokenizer.bos_token_id is not None else []
        return first + ids[len(ids) - room + len(first) :]

    # Answers.

    def _answer_ids(self, prompt: Prompt, answer: str) -> list[int]:
        return self._with_one_end(self._continued(answer if isinstance(prompt, str) else self._turn(prompt, answer)))

    def _turn(self, prompt: Sequence[dict[str, str]], answer: str) -> str:
        """An answer as the chat template writes it, closed turn included."""
        before = self._prompt_text(prompt)
        *earlier, last = prompt
        if last["role"] == "assistant":
            messages = [*earlier, {**last, "content": last["content"] + answer}]
        else:
            messages = [*prompt, {"role": "assistant", "content": answer}]
        whole = self._rendered(messages)
        # Some templates open a turn in another way than they write it afterwards (with a place for reasoning, say).
        return whole[len(before) :] if whole.startswith(before) else answer + self._closing

    def _with_one_end(self, ids: list[int]) -> list[int]:
        """Where the text ends itself, no second end and no blanks behind it; otherwise EOS added."""
        end, last = None, len(ids) - 1
        while last >= 0 and (ids[last] in self.ends or not self.tokenizer.decode(ids[last : last + 1]).strip()):
            end, last = last if ids[last] in self.ends else end, last - 1
        if end is not None:
            return ids[: end + 1]
        eos = self.tokenizer.eos_token_id
        return ids if eos is None else [*ids, eos]

    def _cut(self, answer: list[int], room: int) -> list[int]:
        """The beginning of an answer; a cut answer does not end."""
        kept = answer[:room]
        while len(answer) > room and len(kept) > 1 and kept[-1] in self.ends:
            kept = kept[:-1]
        return kept

    # Texts.

    def _continued(self, text: str) -> list[int]:
        """Ids of a text that continues another one: without the space that some tokenizers put before whatever they read."""
        if self._puts_a_space_before:
            for anchor in ANCHORS:
                before, both = self._ids(anchor), self._ids(anchor + text)
                if both[: len(before)] == before:
                    return both[len(before) :]
        return self._ids(text)

    @cached_property
    def _puts_a_space_before(self) -> bool:
        return self._ids("\n" + "a") != self._ids("\n") + self._ids("a")

    def _rendered(self, messages: Sequence[dict[str, str]], **how: Any) -> str:
        from jinja2 import TemplateError

        if not getattr(self.tokenizer, "chat_template", None):
            raise ValueError(
                "These pairs are conversations, but the model's tokenizer has no chat template; "
                "use an instruction-tuned model, or give the prompts as plain text."
            )
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, **how))
        except (TemplateError, TypeError, ValueError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"The tokenizer's chat template refuses a conversation of {roles} ({' '.join(str(error).split())}); "
                "change its messages, or use another model."
            ) from None

    def _ids(self, text: str) -> list[int]:
        try:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        except TypeError:
            raise ValueError(
                f"No tokenizer can read {text[:40]!a}: it holds half of a character (a lone surrogate); edit that pair."
            ) from None


def _without_oldest_turn(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The conversation from its second user turn on, instructions before the first turn kept; empty where there is none."""
    begin = 0
    while begin < len(messages) and messages[begin]["role"] in INSTRUCTIONS:
        begin += 1
    later = [number for number in range(begin + 1, len(messages)) if messages[number]["role"] == "user"]
    return [*messages[:begin], *messages[later[0] :]] if later else []
