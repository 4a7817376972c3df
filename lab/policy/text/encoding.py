"""Text to token ids: the prompt and the answer are encoded apart, so that the boundary between them never moves.

A row is [BOS] prompt answer end.

BOS    What the tokenizer itself writes before a text, once, whether or not the chat template writes it too. A BOS that the
       tokenizer names but never writes (SmolLM2's opens a turn) is not put anywhere; the template's own stays.
end    Exactly one at the end of a whole answer, none on a cut one. In a conversation it is what the chat template closes the
       assistant's turn with (`chat_template.py`): one token or several, also where that is not tokenizer.eos_token; what the
       template writes after it, usually a line break, is left out. Where it closes a turn with nothing, and behind plain text, EOS.
cuts   A prompt that does not fit loses its beginning: of a conversation first the oldest turns, whole, while the system message
       stays; then tokens from the left, the system message too. BOS stays, an opener of a turn does not. An answer
       is cut only where it would not fit behind an eighth of `max_length` of its prompt, and `answer_cut` says by how much.
Special tokens that are written out in the texts, as in prompts that were formatted before, are read as special tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from lab.policy.memory import out_of_memory
from lab.policy.sources.model_error import cause

from .chat_template import ChatTemplate, Turn, now

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


def required_length(prompt: int, answer: int) -> int:
    """The least `max_length` (at least 16) that does not cut an answer of so many tokens behind such a prompt."""
    least = max(answer, 16)
    while answer_room(least, prompt) < answer:
        least += answer - answer_room(least, prompt)
    return least


@dataclass(frozen=True)
class Ending:
    """How a sampled answer ends, and what of it is no text.

    ids: token ids that end it.   text: a text of several tokens, or of an ordinary one, that ends it too; else empty.
    lead: text that the chat template writes before an answer.   behind: text that it writes between an answer and that end.
    """

    ids: tuple[int, ...]
    text: str = ""
    lead: str = ""
    behind: str = ""


@dataclass(frozen=True)
class Encoder:
    """Encodes prompts and answers for one tokenizer.

    max_length: tokens of prompt and answer together, at least 16.
    more_ends:  ids at which this model's answers end besides the tokenizer's EOS (`eos_token_id` of its generation_config).
    moment:     the date and time that a chat template is told.
    """

    tokenizer: Any
    max_length: int = 1024
    more_ends: tuple[int, ...] = ()
    moment: datetime = field(default_factory=now)

    def __call__(self, prompt: Prompt, answer: str) -> Encoded:
        """One answer behind its prompt. Raises ValueError in one sentence where the tokenizer or its template refuses the text."""
        return self.together(prompt, [answer])[0]

    def together(self, prompt: Prompt, answers: Sequence[str]) -> list[Encoded]:
        """Several answers behind one prompt, which is cut alike for all of them. Raises ValueError as for one."""
        turn = None if isinstance(prompt, str) else self.template.turn(prompt)
        ids = self._prompt_ids(prompt) if turn is None else self._row(turn.before)
        room = answer_room(self.max_length, len(ids))
        whole = [self._answer(prompt, turn, answer) for answer in answers]
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
    def template(self) -> ChatTemplate:
        """The tokenizer's chat template at this encoder's moment."""
        return ChatTemplate(self.tokenizer, self.moment)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Every id at which an answer ends: EOS, those of the model's generation_config, the added token that closes a turn."""
        eos = self.tokenizer.eos_token_id
        known = [*([] if eos is None else [eos]), *self.more_ends]
        if getattr(self.tokenizer, "chat_template", None):
            with contextlib.suppress(ValueError):  # a template that fails says so where a conversation needs it
                known += self._last_added(self.template.end)
        return tuple(dict.fromkeys(known))

    def ending(self, prompt: Prompt) -> Ending:
        """How sampled answers to a prompt end."""
        if isinstance(prompt, str):
            return Ending(self.ends)
        turn = self.template.turn(prompt)
        lead = self.tokenizer.decode(self._ids(turn.lead), skip_special_tokens=True) if turn.lead else ""
        if not turn.end:  # EOS ends it, behind the blanks that the template writes
            return Ending(self.ends, "", lead, turn.behind)
        last = self._last_added(turn.end)
        if not last:
            text = turn.end.lstrip()
            return Ending(self.ends, text, lead, turn.end.removesuffix(text))
        behind = self.tokenizer.decode(self._ids(turn.end)[: -len(last)], skip_special_tokens=True)
        return Ending(tuple(dict.fromkeys([*self.ends, *last])), "", lead, behind)

    def _last_added(self, end: str) -> list[int]:
        """The id of the added token with which a text ends; empty where it ends in ordinary ones."""
        last = (self._ids(end) or [-1])[-1]
        return [last] if last in self.tokenizer.added_tokens_decoder else []

    # Prompts.

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """What the tokenizer itself writes before a text: usually BOS, or nothing."""
        alone, whole = self._ids("x"), self._ids("x", alone=False)
        begins = [number for number in range(len(whole) - len(alone) + 1) if whole[number : number + len(alone)] == alone]
        return tuple(whole[: begins[0]]) if alone and begins else ()

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        return self._row(prompt if isinstance(prompt, str) else self.template.before(prompt))

    def _row(self, text: str) -> list[int]:
        """The ids of a prompt's text, as a row begins with them."""
        ids = self._ids(text)
        opening, bos = list(self.opening), self.tokenizer.bos_token_id
        while opening and ids[: len(opening)] == opening:
            ids = ids[len(opening) :]
        while not opening and bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        if not opening and not ids:
            raise ValueError(f"The prompt {text[:40]!a} gives no token with this tokenizer; write something an answer can follow.")
        return [*opening, *ids]

    def _shortened(self, prompt: Prompt, ids: list[int], room: int) -> list[int]:
        """The ids, of which at most `room` are left."""
        if not isinstance(prompt, str):
            while len(ids) > room and (prompt := _without_oldest_turn(prompt)):
                ids = self._prompt_ids(prompt)
        if len(ids) <= room:
            return ids
        first = ids[: self._kept_at_the_beginning(ids)]
        return first + ids[len(ids) - room + len(first) :]

    def _kept_at_the_beginning(self, ids: list[int]) -> int:
        """How many ids a cut leaves at the beginning: those that the tokenizer writes, or a BOS that begins no turn besides."""
        bos = self.tokenizer.bos_token_id
        return len(self.opening) or int(bos is not None and ids[0] == bos and ids.count(bos) == 1)

    # Answers.

    def _answer(self, prompt: Prompt, turn: Turn | None, answer: str) -> list[int]:
        """The ids of a whole answer with its end: in a conversation, its turn as the chat template writes it, up to that end."""
        if isinstance(prompt, str) or turn is None:
            return self._with_one_end(self._continued(answer))
        whole = self.template.answered(prompt, answer)
        # Some templates open a turn in another way than they write it afterwards (with a place for reasoning, say).
        text = whole[len(turn.before) :] if whole.startswith(turn.before) else answer + turn.behind
        if "".join(answer.split()) not in "".join(text.split()):  # some leave out what stands before </think>
            text = turn.lead + answer + turn.behind
        if not turn.end or not text.endswith(turn.behind):
            return self._with_one_end(self._continued(text))
        return self._continued(self._without_ends(text[: len(text) - len(turn.behind)], turn.end.strip()) + turn.end)

    def _without_ends(self, text: str, end: str) -> str:
        """A text without the ends that stand at its own end already."""
        names = {end, *self._end_names} - {""}
        while name := next((name for name in names if text.rstrip().endswith(name)), None):
            text = text.rstrip().removesuffix(name)
        return text

    @cached_property
    def _end_names(self) -> list[str]:
        return [self.tokenizer.decode([number]).strip() for number in self.ends]

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

    def _ids(self, text: str, *, alone: bool = True) -> list[int]:
        """The ids of a text. alone: without what the tokenizer writes around every text."""
        try:
            return list(self.tokenizer(text, add_special_tokens=not alone)["input_ids"])
        except TypeError:
            raise ValueError(
                f"No tokenizer can read {text[:40]!a}: it holds half of a character (a lone surrogate); edit that pair."
            ) from None
        except Exception as error:  # of the tokenizers library; some vocabularies do not know every character
            if out_of_memory(error):
                raise
            raise ValueError(
                f"The tokenizer cannot read {text[:40]!a} ({cause(error)}); use the tokenizer that the model was made with."
            ) from error


def _without_oldest_turn(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The conversation from its second user turn on, instructions before the first turn kept; empty where there is none."""
    begin = 0
    while begin < len(messages) and messages[begin]["role"] in INSTRUCTIONS:
        begin += 1
    later = [number for number in range(begin + 1, len(messages)) if messages[number]["role"] == "user"]
    return [*messages[:begin], *messages[later[0] :]] if later else []
