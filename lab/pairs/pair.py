"""The preference pair: its fields, what makes it valid, and ids by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lab.errors import LabError

Message = dict[str, Any]
"""One turn of a conversation: `role` and `content`, and where there are some `reasoning_content`, `tool_calls`, `name` and
`tool_call_id`. `content` is text, or None beside tool calls; further keys must be text and go to the chat template too."""

Prompt = str | list[Message]
"""Plain text, or the turns of a conversation."""

Answer = str | list[Message]
"""Text of one assistant turn; or messages, where an answer has several turns, tool calls or reasoning. Only the tokens of its
assistant messages are trained on."""


class ToolConversation(list[Message]):
    """The turns of a conversation, with the `tools` that the model may call in it."""

    def __init__(self, messages: Iterable[Message], tools: list[dict[str, Any]]) -> None:
        super().__init__(messages)
        self.tools = tools


FIELDS = ("prompt", "chosen", "rejected")
LONGEST_ID = 100
"""Characters of a pair's id."""


class PairsError(LabError):
    """Pairs cannot be used; the message names the problem, its place and the remedy."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, of which `chosen` is preferred to `rejected`.

    id:      12 hex digits, a hash of the content as imported (with a suffix on duplicates); edits do not change it.
    version: Counts the edits of this pair, from 1; the same id and version always mean the same content.
    dropped: Whether the pair is excluded from the set; it stays in the store.
    meta:    The other columns of the source, as JSON values.
    tools:   Descriptions of the functions that the model may call, as the chat template takes them; None without tools.
    weight:  Factor of the pair's loss in training, at least 0: 1 is an ordinary pair, one of weight 2 counts as two, and one of
             weight 0 trains nothing. A step minimises the mean over its batch of weight times loss (OURS).
    degree:  How clearly `chosen` is better, above 0 (the same) up to 1 (as clear as it can be); None where nobody said.
    tags:    Short labels, sorted, without repetition.
    note:    A curator's remark.
    """

    id: str
    prompt: Prompt
    chosen: Answer
    rejected: Answer
    version: int = 1
    dropped: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] | None = None
    weight: float = 1.0
    degree: float | None = None
    tags: tuple[str, ...] = ()
    note: str = ""

    @property
    def content(self) -> tuple[Prompt, Answer, Answer]:
        """The texts that an edit can change: (prompt, chosen, rejected)."""
        return self.prompt, self.chosen, self.rejected

    @property
    def context(self) -> Prompt:
        """The prompt as the model is given it before an answer, with the tools where there are some."""
        return ToolConversation(self.prompt, self.tools) if self.tools and isinstance(self.prompt, list) else self.prompt


def prompt_text(prompt: Prompt) -> str:
    """Return a prompt as readable text: plain text unchanged, a conversation as "role: content" lines."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message_text(message)}" for message in prompt)


def answer_text(answer: Answer) -> str:
    """Return an answer as readable text: plain text unchanged, messages as "role: content" lines, a single one without its role."""
    if isinstance(answer, list) and len(answer) == 1:
        return message_text(answer[0])
    return prompt_text(answer)


def message_text(message: Message) -> str:
    """Return the readable text of one message: its reasoning, its content, and its tool calls as `name(arguments)`, on lines."""
    lines = [f"[reasoning] {message['reasoning_content']}"] if message.get("reasoning_content") else []
    lines += [message["content"]] if message.get("content") is not None else []
    for call in message.get("tool_calls") or []:
        function = call.get("function", call)
        arguments = function.get("arguments", {})
        lines.append(f"[call] {function.get('name')}({arguments if isinstance(arguments, str) else to_json(arguments)})")
    return "\n".join(lines)


def validate(prompt: Any, chosen: Any, rejected: Any, tools: Any = None) -> None:
    """Raise PairsError where the texts do not make a valid pair; the caller adds which pair it is."""
    _validate_prompt(prompt)
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        _validate_answer(answer, name, isinstance(prompt, str))
    if chosen == rejected:
        raise PairsError("chosen and rejected are identical, so they show no preference; change one, or leave the pair out.")
    if tools is not None:
        _validate_tools(tools, isinstance(prompt, str))


def _validate_prompt(prompt: Any) -> None:
    if isinstance(prompt, list):
        check_messages(prompt, "prompt")
    elif not isinstance(prompt, str):
        raise PairsError(f"prompt is {json_type(prompt)}; give text or a list of messages.")
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise PairsError("prompt is empty; give the text that both answers reply to.")


def _validate_answer(answer: Any, name: str, plain: bool) -> None:
    if isinstance(answer, list) and answer:
        check_messages(answer, name)
        roles = [message["role"] for message in answer]
        if roles[0] != "assistant" or roles[-1] != "assistant":
            raise PairsError(
                f"after the prompt {name} must begin and end with an assistant message, but it is: {', '.join(roles)}."
            )
        if plain:
            raise PairsError(f"{name} has messages, but the prompt is text; give the prompt as messages too.")
        if any(_is_empty(message) for message in answer if message["role"] == "assistant"):
            raise PairsError(f"{name} is empty; give an answer, or leave the pair out.")
    elif not isinstance(answer, (str, list)):
        raise PairsError(f"{name} is {json_type(answer)}; give text.")
    elif not answer or (isinstance(answer, str) and not answer.strip()):
        raise PairsError(f"{name} is empty; give an answer, or leave the pair out.")


def _is_empty(message: Message) -> bool:
    return not (message["content"] or "").strip() and not message.get("tool_calls")


def _validate_tools(tools: Any, plain: bool) -> None:
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise PairsError(f"tools is {json_type(tools)}; give a list of objects that describe functions.")
    if plain:
        raise PairsError("tools need a chat template, but the prompt is text; give the prompt as messages.")


def check_messages(messages: list[Any], name: str) -> None:
    """Raise PairsError unless every item is a message: {"role": text, "content": text}; see `Message` for the other keys."""
    for number, message in enumerate(messages, 1):
        place = f"message {number} of {name}"
        if not isinstance(message, dict):
            raise PairsError(f'{place} is {json_type(message)}; give {{"role": ..., "content": ...}}.')
        for key in ("role", "content"):
            if key not in message:
                raise PairsError(f"{place} has no {key!r}; give every message a role and a content.")
        for key, value in message.items():
            if key == "tool_calls":
                _check_tool_calls(value, place)
            elif key == "content" and value is None and message.get("tool_calls"):
                continue
            elif not isinstance(value, str):
                raise PairsError(f"{place} has {json_type(value)} as {key!r}; only text can be trained on.")


def _check_tool_calls(calls: Any, place: str) -> None:
    if not isinstance(calls, list) or not calls:
        raise PairsError(f"{place} has {json_type(calls)} as 'tool_calls'; give a list of calls.")
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise PairsError(f'{place} has a tool call without a function name; give {{"function": {{"name": ..., ...}}}}.')


def json_type(value: Any) -> str:
    """Return a JSON value's type with its article, for messages: "a number", "an object"."""
    if value is None:
        return "null"
    kinds = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def is_id(id: Any) -> bool:
    """Whether a value can be the id of a pair: text that every file of pairs keeps."""
    return isinstance(id, str) and 0 < len(id.strip()) <= LONGEST_ID and id.isprintable()


def to_bytes(text: str) -> bytes:
    """Encode text as UTF-8, lone surrogates included, which JSON escapes can contain."""
    return text.encode("utf-8", "surrogatepass")


_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode  # made once: a third of its time


def to_json(value: Any) -> str:
    """Return compact JSON with sorted keys; equal values give equal text."""
    return _encode(value)


def content_id(prompt: Prompt, chosen: Answer, rejected: Answer, tools: Any = None) -> str:
    """Return the first 12 hex digits of the content's SHA-256."""
    content = [prompt, chosen, rejected] if tools is None else [prompt, chosen, rejected, tools]
    return hashlib.sha256(to_bytes(to_json(content))).hexdigest()[:12]


def with_unique_ids(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the pairs with unique ids: the second of two equal ids gets the suffix -2, the third -3, ..."""
    seen: dict[str, int] = {}
    for pair in pairs:
        id, count = pair.id, seen.get(pair.id, 0) + 1
        while count > 1 and f"{id}-{count}" in seen:
            count += 1
        seen[id] = count
        if count > 1:
            seen[f"{id}-{count}"] = 1
        yield pair if count == 1 else replace(pair, id=f"{id}-{count}")
