"""A tokenizer's chat template with its clock stopped, and what the template writes behind an assistant's answer.

Everything is decided by rendering conversations and comparing the texts, not by names of templates or tokens.

clock      Templates may print the date through `strftime_now`. Here that name is a macro with one fixed moment, put before the
           template's own text, so that runs with different moments share a process without touching each other.
turn end   What stands behind the answer of the last turn, up to where it differs from what stands behind an answer that is followed
           by another turn, and never more than the first run of added tokens: `<|im_end|>` of `<|im_end|>\\n`, `<|end|>` of
           `<|end|>\\n<|endoftext|>`, all of `<|END_RESPONSE|><|END_OF_TURN_TOKEN|>`. Blanks alone are no end, because answers hold
           them, too; such a turn is closed with the tokenizer's EOS.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from lab.policy.memory import out_of_memory

Messages = Sequence[dict[str, Any]]

QUESTION, ANSWER, LATER = "qzxquestionxzq", "qzxanswerxzq", "qzxlaterxzq"
"""Words that no template writes by itself."""
RENDERINGS = 16
"""How often one conversation is rendered to see whether the template writes the same text each time."""
FLAGS = ("", "-", "_", "0", "^", "#", "E", "O")
"""What may stand between % and the letter of a date format."""
CLOCK = "strftime_now"
BLANKS = r"\s+"


@dataclass(frozen=True)
class Turn:
    """An assistant's turn in one conversation, as the template writes it.

    before: everything up to where the answer is generated.   lead: what the template writes between that and the answer.
    behind: what it writes behind the answer.   end: the beginning of `behind` that closes the turn; empty where nothing does.
    """

    before: str
    lead: str
    behind: str
    end: str


@dataclass(frozen=True)
class ChatTemplate:
    """Renders conversations with a tokenizer's chat template at a fixed moment. Errors are ValueErrors in one sentence."""

    tokenizer: Any
    moment: datetime

    def render(self, messages: Messages, **how: Any) -> str:
        """The text of a conversation. Raises ValueError where there is no template, or where it refuses the messages."""
        before = random.getstate()
        text = self._render(messages, **how)
        drew = random.getstate() != before  # another thread may have drawn: the texts decide
        if drew and any(self._render(messages, **how) != text for _ in range(RENDERINGS)):
            raise ValueError(
                "The tokenizer's chat template writes another text each time it is used (it draws at random), so a run could not "
                "be repeated or resumed; take the random part out of its chat_template."
            )
        return text

    def before(self, prompt: Messages) -> str:
        """A conversation up to where the next answer begins; where the last message is the assistant's, up to its end."""
        if not prompt:
            raise ValueError("The prompt is a conversation without messages; give at least one message to reply to.")
        begun = prompt[-1]["role"] == "assistant"
        return self.render(prompt, add_generation_prompt=not begun, continue_final_message=begun)

    def answered(self, prompt: Messages, answer: str) -> str:
        """A conversation with its answer, closed turn included."""
        *earlier, last = prompt
        if last["role"] == "assistant":
            return self.render([*earlier, {**last, "content": last["content"] + answer}])
        return self.render([*prompt, {"role": "assistant", "content": answer}])

    def turn(self, prompt: Messages) -> Turn:
        """How the template writes the answer to a conversation."""
        before, whole = self.before(prompt), self.answered(prompt, ANSWER)
        at = whole.rfind(ANSWER)
        if at < 0:
            raise ValueError(
                "The tokenizer's chat template does not write the assistant's answer, so there is nothing to train on; use "
                "another model, or give the prompts as plain text."
            )
        if whole.count(ANSWER) > 1:
            raise ValueError(
                "The tokenizer's chat template writes the assistant's answer more than once, so it cannot be told where the answer "
                "begins and ends; use another model, or give the prompts as plain text."
            )
        behind = whole[at + len(ANSWER) :]
        lead = whole[len(before) : at] if whole.startswith(before) else ""
        return Turn(before, lead, behind, self.end_of(behind))

    @cached_property
    def end(self) -> str:
        """What closes an assistant's turn in a short conversation, without blanks; empty where nothing does."""
        return self.turn([_says("user", QUESTION)]).end.strip()

    def end_of(self, behind: str) -> str:
        """The part of what stands behind an answer that closes its turn."""
        if not behind.strip():
            return self._end_between_turns
        parts, others = self.parts(behind), self.parts(self._behind_earlier_answer)
        shared = 0
        while shared < min(len(parts), len(others)) and parts[shared] == others[shared]:
            shared += 1
        common = "".join(parts[:shared])
        if self._behind_earlier_answer.startswith(behind.rstrip()):
            common = behind
        return self._closing(self.parts(common if common.strip() else behind))

    @cached_property
    def _end_between_turns(self) -> str:
        """What closes a turn only where another one follows, where that is an added token which does not open a turn as well."""
        first = next((part for part in self.parts(self._behind_earlier_answer) if part.strip()), "")
        opening = self._render([_says("user", QUESTION)])
        opens = first in opening[: opening.find(QUESTION)]
        return first if first in self._added and not opens else ""

    @cached_property
    def _behind_earlier_answer(self) -> str:
        """What the template writes between an answer and the user's next message; empty where it refuses such a conversation."""
        try:
            whole = self._render([_says("user", QUESTION), _says("assistant", ANSWER), _says("user", LATER)])
        except ValueError:
            return ""
        begin, end = whole.rfind(ANSWER), whole.rfind(LATER)
        return whole[begin + len(ANSWER) : end] if 0 <= begin < end else ""

    def _closing(self, parts: list[str]) -> str:
        """Parts up to the end of their first run of added tokens; all of them, without blanks at the end, where there is none."""
        for number, part in enumerate(parts):
            if part in self._added:
                while number + 1 < len(parts) and parts[number + 1] in self._added:
                    number += 1
                return "".join(parts[: number + 1])
        return "".join(parts).rstrip()

    def parts(self, text: str) -> list[str]:
        """A text divided into added tokens, blanks, and the words between them."""
        names = sorted(map(re.escape, self._added), key=len, reverse=True)
        return [part for part in re.split("(" + "|".join([*names, BLANKS]) + ")", text) if part]

    @cached_property
    def _added(self) -> frozenset[str]:
        """Texts of the tokens that the tokenizer reads as one, whatever stands around them; those of blanks apart."""
        return frozenset(token.content for token in self.tokenizer.added_tokens_decoder.values() if token.content.strip())

    # The clock.

    @cached_property
    def fixed(self) -> str:
        """The template's text with the moment in it: any library that renders it writes what this renders, on any day."""
        if not getattr(self.tokenizer, "chat_template", None):
            raise ValueError(
                "These pairs are conversations, but the model's tokenizer has no chat template; "
                "use an instruction-tuned model, or give the prompts as plain text."
            )
        try:
            text = str(self.tokenizer.get_chat_template())
        except ValueError as error:  # several templates by name, none of which is the default
            raise ValueError(f"The tokenizer's chat template cannot be used: {' '.join(str(error).split())}") from None
        return f"{_clock(self.moment)}\n{text}" if CLOCK in text else text

    @property
    def prints_the_date(self) -> bool:
        """Whether the template writes another text at another moment."""
        other = ChatTemplate(self.tokenizer, datetime(1987, 6, 5, 4, 3, 2))
        probe = [_says("user", QUESTION)]
        try:
            return self._render(probe) != other._render(probe)
        except ValueError:
            return False

    def _render(self, messages: Messages, **how: Any) -> str:
        fixed = self.fixed
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), chat_template=fixed, tokenize=False, **how))
        except Exception as error:  # a template is a program, and fails in any way a program can
            if out_of_memory(error):
                raise
            roles = ", ".join(message["role"] for message in messages)
            why = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"The tokenizer's chat template refuses a conversation of {roles} ({why}); "
                "change its messages, or use another model."
            ) from None


def as_moment(text: str) -> datetime:
    """A moment from ISO text, or the present one where the text is empty. Raises ValueError in one sentence."""
    if not text:
        return now()
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise ValueError(f"{text!r} is no moment; write a date, or date and time, as 2026-01-31 or 2026-01-31T12:00:00") from None


def now() -> datetime:
    """The present moment as templates are told it: local time in whole seconds."""
    return datetime.now().replace(microsecond=0)


def _says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@lru_cache(maxsize=32)
def _clock(moment: datetime) -> str:
    """A Jinja macro that stands for `strftime_now` at one moment. It is one line, and the line break behind it belongs to it."""
    codes = {f"%{flag}{letter}" for flag in FLAGS for letter in string.ascii_letters} | {"%%"}
    written = {code: moment.strftime(code) for code in sorted(codes)}
    table = json.dumps({code: text for code, text in written.items() if text != code})
    flags = "".join(FLAGS)
    return (
        f"{{% macro {CLOCK}(format) %}}{{% set code = namespace(text='') %}}{{% for c in format %}}"
        "{% if code.text == '' and c != '%' %}{{ c }}{% else %}{% set code.text = code.text + c %}"
        f"{{% if code.text != '%' and c not in '{flags}' %}}{{{{ {table}.get(code.text, code.text) }}}}"
        "{% set code.text = '' %}{% endif %}{% endif %}{% endfor %}{{ code.text }}{% endmacro %}"
    )
