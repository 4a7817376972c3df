r"""Render a tokenizer's chat template at a fixed date, and find the text that closes an assistant's turn.

All decisions come from rendering conversations and comparing the texts, not from names of templates or tokens.

date       Templates may print the date through `strftime_now`. A macro of this name with one fixed moment is put before the
           template's own text, so that runs with different moments can share a process.
turn end   The text after the last answer, up to where it differs from the text after an answer that another turn follows, and at
           most the first run of added tokens: `<|im_end|>` of `<|im_end|>\n`, `<|end|>` of `<|end|>\n<|endoftext|>`, all of
           `<|END_RESPONSE|><|END_OF_TURN_TOKEN|>`. White space alone is not an end, because answers contain it; such a turn
           is closed with the tokenizer's EOS.
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
"""Texts that no template contains."""
RENDERINGS = 16
"""Renderings of one conversation that must be equal, for a template that draws random numbers."""
FLAGS = ("", "-", "_", "0", "^", "#", "E", "O")
"""Characters that may be between % and the letter of a date format."""
CLOCK = "strftime_now"
BLANKS = r"\s+"


@dataclass(frozen=True)
class Turn:
    """Rendered parts of an assistant's turn in one conversation.

    before: Text up to where the answer is generated.
    lead:   Text of the template between `before` and the answer.
    behind: Text of the template after the answer.
    end:    Beginning of `behind` that closes the turn; may be empty.
    """

    before: str
    lead: str
    behind: str
    end: str


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template at a fixed moment; errors are ValueErrors of one sentence.

    tools: Descriptions of the functions that the model may call, which every rendering gets; empty for none.
    """

    tokenizer: Any
    moment: datetime
    tools: tuple[dict[str, Any], ...] = ()

    def render(self, messages: Messages, **options: Any) -> str:
        """Render a conversation; options as in `apply_chat_template`.

        Raises ValueError where there is no template, where it refuses the messages, or where it is random.
        """
        state = random.getstate()
        text = self._render(messages, **options)
        drew = random.getstate() != state  # possibly in another thread, so the texts decide
        if drew and any(self._render(messages, **options) != text for _ in range(RENDERINGS)):
            raise ValueError(
                "The tokenizer's chat template writes another text each time it is used (it draws at random), so a run could not "
                "be repeated or resumed; remove the random part from its chat_template."
            )
        return text

    def before(self, prompt: Messages) -> str:
        """Render a conversation up to where the next answer begins, or up to the end of a last message of the assistant."""
        if not prompt:
            raise ValueError("The prompt is a conversation without messages; give at least one message to reply to.")
        continued = prompt[-1]["role"] == "assistant"
        return self.render(prompt, add_generation_prompt=not continued, continue_final_message=continued)

    def answered(self, prompt: Messages, answer: str) -> str:
        """Render a conversation with its answer and the end of the turn."""
        *earlier, last = prompt
        if last["role"] == "assistant":
            return self.render([*earlier, {**last, "content": last["content"] + answer}])
        return self.render([*prompt, {"role": "assistant", "content": answer}])

    def turn(self, prompt: Messages) -> Turn:
        """Return the parts of the assistant's turn after a conversation."""
        before, whole = self.before(prompt), self.answered(prompt, ANSWER)
        at = whole.rfind(ANSWER)
        if at < 0:
            raise ValueError(
                "The tokenizer's chat template does not write the assistant's answer, so there is nothing to train on; use "
                "another model, or give the prompts as plain text."
            )
        if whole.count(ANSWER) > 1:
            raise ValueError(
                "The tokenizer's chat template writes the assistant's answer more than once, so the answer's beginning and end are "
                "ambiguous; use another model, or give the prompts as plain text."
            )
        behind = whole[at + len(ANSWER) :]
        lead = whole[len(before) : at] if whole.startswith(before) else ""
        return Turn(before, lead, behind, self.end_of(behind))

    @cached_property
    def end(self) -> str:
        """The text that closes an assistant's turn in a short conversation, without white space; may be empty."""
        return self.turn([_message("user", QUESTION)]).end.strip()

    def end_of(self, behind: str) -> str:
        """Return the part of the text after an answer that closes its turn."""
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
        """An added token that closes a turn only where another one follows, and does not open a turn as well; else empty."""
        first = next((part for part in self.parts(self._behind_earlier_answer) if part.strip()), "")
        opening = self._render([_message("user", QUESTION)])
        opens = first in opening[: opening.find(QUESTION)]
        return first if first in self._added and not opens else ""

    @cached_property
    def _behind_earlier_answer(self) -> str:
        """The text between an answer and the user's next message; empty where the template refuses such a conversation."""
        try:
            whole = self._render([_message("user", QUESTION), _message("assistant", ANSWER), _message("user", LATER)])
        except ValueError:
            return ""
        begin, end = whole.rfind(ANSWER), whole.rfind(LATER)
        return whole[begin + len(ANSWER) : end] if 0 <= begin < end else ""

    def _closing(self, parts: list[str]) -> str:
        """The parts up to the end of their first run of added tokens; without one, all parts without trailing white space."""
        for number, part in enumerate(parts):
            if part in self._added:
                while number + 1 < len(parts) and parts[number + 1] in self._added:
                    number += 1
                return "".join(parts[: number + 1])
        return "".join(parts).rstrip()

    def parts(self, text: str) -> list[str]:
        """Split a text into added tokens, white space, and the words between them."""
        names = sorted(map(re.escape, self._added), key=len, reverse=True)
        return [part for part in re.split("(" + "|".join([*names, BLANKS]) + ")", text) if part]

    @cached_property
    def _added(self) -> frozenset[str]:
        """Texts of the added tokens, without those of white space."""
        return frozenset(token.content for token in self.tokenizer.added_tokens_decoder.values() if token.content.strip())

    # The date.

    @cached_property
    def fixed(self) -> str:
        """The template's text with the moment inserted, which renders the same in any library on any day."""
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
        """Whether the rendered text depends on the moment."""
        other = ChatTemplate(self.tokenizer, datetime(1987, 6, 5, 4, 3, 2))
        probe = [_message("user", QUESTION)]
        try:
            return self._render(probe) != other._render(probe)
        except ValueError:
            return False

    def _render(self, messages: Messages, **options: Any) -> str:
        fixed = self.fixed
        if self.tools:
            options["tools"] = list(self.tools)
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), chat_template=fixed, tokenize=False, **options))
        except Exception as error:  # a template is a program and can raise any error
            if out_of_memory(error):
                raise
            roles = ", ".join(str(message.get("role")) for message in messages)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"The tokenizer's chat template refuses a conversation of {roles} ({reason}); "
                "change its messages, or use another model."
            ) from None


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@lru_cache(maxsize=32)
def _clock(moment: datetime) -> str:
    """A Jinja macro in place of `strftime_now` at one moment, as one line that is completed by a line break."""
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
