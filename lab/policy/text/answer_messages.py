"""Split an answer of several messages, as a chat template renders it, into what the assistant writes and what it is given.

The assistant writes from where the template would let it answer, up to the end of its turn; what a tool or the user says in
between is given. Both follow from rendering the conversation up to each message, so they hold for any template that renders a
conversation's beginning the same way when it goes on. What a template does not write is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .chat_template import ChatTemplate, Turn

Message = dict[str, Any]
SILENT = ("role", "content", "name", "tool_call_id")
"""Keys that a template may leave out: they repeat what the order of the messages says."""


def answer_parts(
    template: ChatTemplate, prompt: Sequence[Message], answer: Sequence[Message], turn: Turn
) -> list[tuple[str, bool]]:
    """Split the rendered answer into (text, whether the assistant writes it), in order; the last one ends with the end of a turn.

    Args:
        template: The chat template, with the tools of the conversation.
        prompt: The conversation before the answer.
        answer: Its messages; the first and the last one are the assistant's.
        turn: Parts of an ordinary turn after this prompt.

    Raises:
        ValueError: The template refuses the messages, leaves out a part of them, or renders them differently when others follow.
    """
    whole = template.render([*prompt, *answer])
    _check_written(template, prompt, answer, whole)
    parts: list[tuple[str, bool]] = []
    done = 0
    for number, message in enumerate(answer):
        if message["role"] != "assistant":
            continue
        before = template.before([*prompt, *answer[:number]])
        through = whole if number == len(answer) - 1 else template.render([*prompt, *answer[: number + 1]])
        if not whole.startswith(before) or not whole.startswith(through.rstrip()) or len(before) < done:
            raise ValueError(
                f"The tokenizer's chat template renders message {number + 1} of an answer of {len(answer)} messages differently "
                "when it is answered or followed by others, so what the assistant writes is unclear; give one message."
            )
        if number:
            parts.append((whole[done : len(before)], False))
        end = _end_of(template, whole, turn) if number == len(answer) - 1 else len(through.rstrip())
        parts.append((whole[len(before) : end], True))
        done = end
    return parts


def _end_of(template: ChatTemplate, whole: str, turn: Turn) -> int:
    """Length of the rendered text up to the end of the last turn, without what the template writes after it."""
    if turn.behind and turn.end and whole.endswith(turn.behind):
        return len(whole) - len(turn.behind) + len(turn.end)
    return len(whole.rstrip())


def _check_written(template: ChatTemplate, prompt: Sequence[Message], answer: Sequence[Message], whole: str) -> None:
    """Raise ValueError for a key whose value the template does not write."""
    for key in dict.fromkeys(key for message in answer for key in message if key not in SILENT):
        if not _differs(template, prompt, [_without(message, key) for message in answer], whole):
            raise ValueError(
                f"The tokenizer's chat template does not write {key} of the assistant's messages, so it would be lost; use a model "
                "whose template does, or remove it from the pair."
            )


def check_prompt_written(template: ChatTemplate, prompt: Sequence[Message]) -> None:
    """Raise ValueError where the template writes neither the tools nor the tool calls of a prompt that has some."""
    lacking = []
    if template.tools:
        bare = ChatTemplate(template.tokenizer, template.moment)
        if not _differs(bare, prompt, [], template.render(prompt)):
            lacking.append("tools")
    if any(message.get("tool_calls") for message in prompt):
        without = [_without(message, "tool_calls") for message in prompt]
        if not _differs(template, without, [], template.render(prompt)):
            lacking.append("tool_calls")
    if lacking:
        raise ValueError(
            f"The tokenizer's chat template does not write {' and '.join(lacking)}, so they would be lost; use a model whose "
            "template does, or remove them from the pair."
        )


def _without(message: Message, key: str) -> Message:
    rest = {name: value for name, value in message.items() if name != key}
    return {**rest, "content": rest.get("content") or ""}


def _differs(template: ChatTemplate, prompt: Sequence[Message], answer: Sequence[Message], whole: str) -> bool:
    try:
        return template.render([*prompt, *answer]) != whole
    except ValueError:  # the template needs what was taken away, so it reads it
        return True
