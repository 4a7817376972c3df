"""The preference pair: its fields, what makes it valid, and ids by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lab.errors import LabError

Message = dict[str, str]
"""One turn of a conversation: "role" and "content", both text; further keys must be text too."""

Prompt = str | list[Message]
"""Plain text, or the turns of a conversation."""

Answer = str
"""Text of one assistant turn."""

FIELDS = ("prompt", "chosen", "rejected")


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
    def content(self) -> tuple[Prompt, str, str]:
        """The fields that an edit can change: (prompt, chosen, rejected)."""
        return self.prompt, self.chosen, self.rejected


def prompt_text(prompt: Prompt) -> str:
    """Return a prompt as readable text: plain text unchanged, a conversation as "role: content" lines."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def answer_text(answer: Answer) -> str:
    """Return an answer as readable text."""
    return answer


def validate(prompt: Any, chosen: Any, rejected: Any) -> None:
    """Raise PairsError where the three do not make a valid pair; the caller adds which pair it is."""
    _validate_prompt(prompt)
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(answer, str):
            raise PairsError(f"{name} is {json_type(answer)}; give text.")
        if not answer.strip():
            raise PairsError(f"{name} is empty; give an answer, or leave the pair out.")
    if chosen == rejected:
        raise PairsError("chosen and rejected are identical, so they show no preference; change one, or leave the pair out.")


def _validate_prompt(prompt: Any) -> None:
    if isinstance(prompt, list):
        check_messages(prompt, "prompt")
    elif not isinstance(prompt, str):
        raise PairsError(f"prompt is {json_type(prompt)}; give text or a list of messages.")
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise PairsError("prompt is empty; give the text that both answers reply to.")


def check_messages(messages: list[Any], name: str) -> None:
    """Raise PairsError unless every item is {"role": text, "content": text}, with text under any further key."""
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise PairsError(f'message {number} of {name} is {json_type(message)}; give {{"role": ..., "content": ...}}.')
        for key in ("role", "content"):
            if key not in message:
                raise PairsError(f"message {number} of {name} has no {key!r}; give every message a role and a content.")
        for key, value in message.items():
            if not isinstance(value, str):
                raise PairsError(f"message {number} of {name} has {json_type(value)} as {key!r}; only text can be trained on.")


def json_type(value: Any) -> str:
    """Return a JSON value's type with its article, for messages: "a number", "an object"."""
    if value is None:
        return "null"
    kinds = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def to_bytes(text: str) -> bytes:
    """Encode text as UTF-8, lone surrogates included, which JSON escapes can contain."""
    return text.encode("utf-8", "surrogatepass")


def to_json(value: Any) -> str:
    """Return compact JSON with sorted keys; equal values give equal text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def content_id(prompt: Prompt, chosen: str, rejected: str) -> str:
    """Return the first 12 hex digits of the content's SHA-256."""
    return hashlib.sha256(to_bytes(to_json([prompt, chosen, rejected]))).hexdigest()[:12]


def with_unique_ids(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the pairs with unique ids: the second of two equal ids gets the suffix -2, the third -3, ..."""
    seen: dict[str, int] = {}
    for pair in pairs:
        count = seen[pair.id] = seen.get(pair.id, 0) + 1
        yield pair if count == 1 else replace(pair, id=f"{pair.id}-{count}")
