"""Encode prompts and answers as token ids, separately, so that the boundary between them never moves.

A row is [BOS] prompt answer end.

BOS    The tokens that the tokenizer itself puts before a text, once, whether or not the chat template writes them too. A BOS that
       the tokenizer names but never adds (SmolLM2's opens a turn) is not added; the template's own stays.
end    Exactly one at the end of a complete answer, none on a cut one. In a conversation it is the text with which the chat template
       closes the assistant's turn (`chat_template.py`): one or more tokens, which may differ from tokenizer.eos_token. Text
       that the template writes after it, usually a line break, is left out. Where there is no such text, and after plain
       text, it is EOS.
cuts   A prompt that does not fit is cut at its beginning: of a conversation first the oldest turns, except the system message,
       then tokens from the left. BOS stays, a token that opens a turn does not. An answer is cut only where it would not
       fit together with an eighth of `max_length` of its prompt; `answer_cut` counts its removed tokens.
parts  An answer of several messages is what the template renders after the prompt; only what the assistant writes is trained on
       (`answer_messages.py`).
Special tokens written out in the texts, as in prompts that are already formatted, are encoded as special tokens.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from lab.policy.layout import PromptTokens
from lab.policy.memory import out_of_memory
from lab.policy.sources.model_error import cause

from .answer_messages import answer_parts, check_prompt_written
from .chat_template import ChatTemplate, Turn
from .template_time import now

Prompt = str | Sequence[dict[str, Any]]
"""Plain text, or the messages of a conversation (role, content); a last message of the assistant begins the answer."""

Answer = str | Sequence[dict[str, Any]]
"""Text of the assistant's turn, or messages, of which only the assistant's are trained on."""

Spans = tuple[tuple[int, int], ...]
"""Places of token ids: (first, last + 1) of each span."""

INSTRUCTIONS = ("system", "developer")
MOST_TOOLS = 256
"""Sets of tools whose templates are kept, because finding a turn's end takes several renderings."""
ANCHORS = ("\n", "|", "x")


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt and an answer.

    prompt_cut, answer_cut: Numbers of tokens that did not fit.
    untrained: Spans of the answer that the assistant did not write, such as what a tool returned.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    prompt_cut: int = 0
    answer_cut: int = 0
    untrained: Spans = ()


def answer_room(max_length: int, prompt: int) -> int:
    """Return the maximum number of answer tokens after a prompt of `prompt` tokens.

    An eighth of `max_length` (at least 8 tokens) is reserved for the prompt, or all of a shorter prompt.
    """
    return max_length - min(prompt, max(8, max_length // 8))


def required_length(prompt: int, answer: int) -> int:
    """Return the smallest `max_length` (at least 16) that does not cut an answer of `answer` tokens after this prompt."""
    least = max(answer, 16)
    while answer_room(least, prompt) < answer:
        least += answer - answer_room(least, prompt)
    return least


@dataclass(frozen=True)
class Ending:
    """End-of-answer tokens of sampled answers to a prompt, and the template's text around an answer.

    ids:    Token ids that end an answer.
    text:   Text of several tokens, or of an ordinary token, that also ends it; else empty.
    lead:   Text of the chat template before an answer.
    behind: Text of the chat template between an answer and its end.
    """

    ids: tuple[int, ...]
    text: str = ""
    lead: str = ""
    behind: str = ""


@dataclass(frozen=True)
class Encoder:
    """Encoder of prompts and answers for one tokenizer.

    max_length: Maximum tokens of prompt and answer together, at least 16.
    more_ends:  Ids that end this model's answers besides the tokenizer's EOS (`eos_token_id` of its generation_config).
    moment:     Date and time that the chat template gets.
    """

    tokenizer: Any
    max_length: int = 1024
    more_ends: tuple[int, ...] = ()
    moment: datetime = field(default_factory=now)

    def __call__(self, prompt: Prompt, answer: Answer) -> Encoded:
        """Encode a prompt and an answer. Raises ValueError where the tokenizer or its template refuses the text."""
        return self.together(prompt, [answer])[0]

    def together(self, prompt: Prompt, answers: Sequence[Answer]) -> list[Encoded]:
        """Encode several answers to one prompt, which is cut to the same length for all of them. Errors as for one answer."""
        turn = None if isinstance(prompt, str) else self._turn(prompt)
        ids = self._prompt_ids(prompt) if turn is None else self._row(turn.before)
        room = answer_room(self.max_length, len(ids))
        whole = [self._answer(prompt, turn, answer) for answer in answers]
        kept = [self._cut(answer, room) for answer, _ in whole]
        short = PromptTokens(self._shortened(prompt, ids, self.max_length - max(map(len, kept))))
        return [
            Encoded(short, tuple(answer), max(len(ids) - len(short), 0), len(full) - len(answer), _within(untrained, len(answer)))
            for answer, (full, untrained) in zip(kept, whole)
        ]

    def prompt(self, prompt: Prompt, most: int | None = None) -> Encoded:
        """Encode a prompt without an answer, cut to `max_length` tokens, or to `most` if that is less."""
        ids = self._prompt_ids(prompt)
        short = self._shortened(prompt, ids, self.max_length if most is None else min(most, self.max_length))
        return Encoded(tuple(short), (), max(len(ids) - len(short), 0))

    @cached_property
    def template(self) -> ChatTemplate:
        """The tokenizer's chat template at this encoder's moment."""
        return ChatTemplate(self.tokenizer, self.moment)

    def _turn(self, prompt: Sequence[dict[str, Any]]) -> Turn:
        template = self._template_of(prompt)
        check_prompt_written(template, prompt)
        return template.turn(prompt)

    def _template_of(self, prompt: Prompt) -> ChatTemplate:
        """The chat template with the tools of a conversation."""
        tools = getattr(prompt, "tools", None)
        if not tools:
            return self.template
        key = json.dumps(tools, sort_keys=True)
        if key not in self._with_tools:
            if len(self._with_tools) == MOST_TOOLS:
                self._with_tools.clear()
            self._with_tools[key] = ChatTemplate(self.tokenizer, self.moment, tuple(tools))
        return self._with_tools[key]

    @cached_property
    def _with_tools(self) -> dict[str, ChatTemplate]:
        return {}

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Every id that ends an answer: EOS, those of the model's generation_config, and the added token that closes a turn."""
        eos = self.tokenizer.eos_token_id
        known = [*([] if eos is None else [eos]), *self.more_ends]
        if getattr(self.tokenizer, "chat_template", None):
            with contextlib.suppress(ValueError):  # a broken template is reported where a conversation is encoded
                known += self._last_added(self.template.end)
        return tuple(dict.fromkeys(known))

    def ending(self, prompt: Prompt) -> Ending:
        """Return how sampled answers to a prompt end."""
        if isinstance(prompt, str):
            return Ending(self.ends)
        turn = self._template_of(prompt).turn(prompt)
        lead = self.tokenizer.decode(self._ids(turn.lead), skip_special_tokens=True) if turn.lead else ""
        if not turn.end:  # EOS ends it, after the template's white space
            return Ending(self.ends, "", lead, turn.behind)
        last = self._last_added(turn.end)
        if not last:
            text = turn.end.lstrip()
            return Ending(self.ends, text, lead, turn.end.removesuffix(text))
        behind = self.tokenizer.decode(self._ids(turn.end)[: -len(last)], skip_special_tokens=True)
        return Ending(tuple(dict.fromkeys([*self.ends, *last])), "", lead, behind)

    def _last_added(self, end: str) -> list[int]:
        """The id of the added token at the end of a text; empty where the text ends with an ordinary token."""
        last = (self._ids(end) or [-1])[-1]
        return [last] if last in self.tokenizer.added_tokens_decoder else []

    # Prompts.

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """Tokens that the tokenizer itself puts before a text: usually BOS, or none."""
        alone, whole = self._ids("x"), self._ids("x", alone=False)
        begins = [number for number in range(len(whole) - len(alone) + 1) if whole[number : number + len(alone)] == alone]
        return tuple(whole[: begins[0]]) if alone and begins else ()

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        return self._row(prompt if isinstance(prompt, str) else self._template_of(prompt).before(prompt))

    def _row(self, text: str) -> list[int]:
        """The ids of a prompt's text, with the opening tokens once."""
        ids = self._ids(text)
        opening, bos = list(self.opening), self.tokenizer.bos_token_id
        while opening and ids[: len(opening)] == opening:
            ids = ids[len(opening) :]
        while not opening and bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        if not opening and not ids:
            raise ValueError(f"The prompt {text[:40]!a} has no tokens with this tokenizer; write a longer prompt.")
        return [*opening, *ids]

    def _shortened(self, prompt: Prompt, ids: list[int], room: int) -> list[int]:
        """The ids of a prompt, cut to at most `room`."""
        if not isinstance(prompt, str):
            while len(ids) > room and (prompt := _without_oldest_turn(prompt)):
                ids = self._prompt_ids(prompt)
        if len(ids) <= room:
            return ids
        first = ids[: self._kept_at_the_beginning(ids)]
        return first + ids[len(ids) - room + len(first) :]

    def _kept_at_the_beginning(self, ids: list[int]) -> int:
        """Number of ids that a cut keeps at the beginning: the opening tokens, or a BOS that does not also open turns."""
        bos = self.tokenizer.bos_token_id
        return len(self.opening) or int(bos is not None and ids[0] == bos and ids.count(bos) == 1)

    # Answers.

    def _answer(self, prompt: Prompt, turn: Turn | None, answer: Answer) -> tuple[list[int], Spans]:
        """The ids of a complete answer with its end, and which of them the assistant did not write; see `_text_answer`."""
        if isinstance(answer, str):
            return self._text_answer(prompt, turn, answer), ()
        if isinstance(prompt, str) or turn is None:
            raise ValueError("An answer of several messages needs a conversation as its prompt; give the prompt as messages.")
        ids: list[int] = []
        untrained = []
        for text, trained in answer_parts(self._template_of(prompt), prompt, answer, turn):
            part = self._continued(text)
            if not trained:
                untrained.append((len(ids), len(ids) + len(part)))
            ids += part
        return self._with_one_end(ids), tuple(untrained)

    def _text_answer(self, prompt: Prompt, turn: Turn | None, answer: str) -> list[int]:
        """The ids of a text answer; in a conversation, as the chat template renders the turn."""
        if isinstance(prompt, str) or turn is None:
            return self._with_one_end(self._continued(answer))
        whole = self._template_of(prompt).answered(prompt, answer)
        # Some templates open a turn differently from how they render it afterwards (for example with a part for reasoning).
        text = whole[len(turn.before) :] if whole.startswith(turn.before) else answer + turn.behind
        if "".join(answer.split()) not in "".join(text.split()):  # some templates omit the text before </think>
            text = turn.lead + answer + turn.behind
        if not turn.end or not text.endswith(turn.behind):
            return self._with_one_end(self._continued(text))
        return self._continued(self._without_ends(text[: len(text) - len(turn.behind)], turn.end.strip()) + turn.end)

    def _without_ends(self, text: str, end: str) -> str:
        """The text without end tokens that it already ends with."""
        names = {end, *self._end_names} - {""}
        while name := next((name for name in names if text.rstrip().endswith(name)), None):
            text = text.rstrip().removesuffix(name)
        return text

    @cached_property
    def _end_names(self) -> list[str]:
        return [self.tokenizer.decode([number]).strip() for number in self.ends]

    def _with_one_end(self, ids: list[int]) -> list[int]:
        """The ids up to an end token that the text already has, without white space after it; otherwise with EOS added."""
        end, last = None, len(ids) - 1
        while last >= 0 and (ids[last] in self.ends or not self.tokenizer.decode(ids[last : last + 1]).strip()):
            end, last = last if ids[last] in self.ends else end, last - 1
        if end is not None:
            return ids[: end + 1]
        eos = self.tokenizer.eos_token_id
        return ids if eos is None else [*ids, eos]

    def _cut(self, answer: list[int], room: int) -> list[int]:
        """The first `room` ids of an answer, without end tokens where it is cut."""
        kept = answer[:room]
        while len(answer) > room and len(kept) > 1 and kept[-1] in self.ends:
            kept = kept[:-1]
        return kept

    # Texts.

    def _continued(self, text: str) -> list[int]:
        """The ids of a text that continues another one, without the space that some tokenizers put before every text."""
        if self._puts_a_space_before:
            for anchor in ANCHORS:
                before, both = self._ids(anchor), self._ids(anchor + text)
                if both[: len(before)] == before:
                    return both[len(before) :]
        return self._ids(text)

    @cached_property
    def _puts_a_space_before(self) -> bool:
        return self._ids("\n" + "a") != self._ids("\n") + self._ids("a")

    def _ids(self, text: str, *, alone: bool = True) -> list[int]:
        """The ids of a text; `alone`: without the special tokens that the tokenizer adds to every text."""
        try:
            return list(self.tokenizer(text, add_special_tokens=not alone)["input_ids"])
        except TypeError:
            raise ValueError(
                f"No tokenizer can encode {text[:40]!a}: it contains half of a character (a lone surrogate); edit that pair."
            ) from None
        except Exception as error:  # from the tokenizers library; some vocabularies lack characters
            if out_of_memory(error):
                raise
            raise ValueError(
                f"The tokenizer cannot encode {text[:40]!a} ({cause(error)}); use the tokenizer that the model was trained with."
            ) from error


def _within(spans: Spans, length: int) -> Spans:
    """Spans of a complete answer, as far as they are in its first `length` ids."""
    return tuple((begin, min(end, length)) for begin, end in spans if begin < length)


def _without_oldest_turn(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation from its second user turn on, with the instructions before the first turn; empty without a second one."""
    begin = 0
    while begin < len(messages) and messages[begin]["role"] in INSTRUCTIONS:
        begin += 1
    later = [number for number in range(begin + 1, len(messages)) if messages[number]["role"] == "user"]
    if not later:
        return []
    kept = [*messages[:begin], *messages[later[0] :]]
    tools = getattr(messages, "tools", None)
    again: Any = type(messages)
    return again(kept, tools) if tools else kept
