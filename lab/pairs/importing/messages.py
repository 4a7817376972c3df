"""Convert conversations of every common shape to messages of role and content.

Known are OpenAI's messages (with content in parts, tool calls and reasoning), ShareGPT's turns (`from`, `value`), a single message
in place of a list, conversations written as JSON or Python text (as pandas writes them to CSV), and transcripts of "Human:" and
"Assistant:" turns.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lab.pairs.pair import Message, PairsError, json_type

ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "function": "tool",
}
"""ShareGPT's names of roles -> the names that chat templates know."""
KNOWN_ROLES = ("system", "developer", "user", "assistant", "tool")
CALLS = ("function_call", "tool_call")
WRITTEN = re.compile(
    r"""\s*(?:array\()?\[?\s*\{\s*(?:(['"])(role|content|from|value)\1\s*:|(?=[^{}]*(['"])(?:role|from)\3\s*:)(['"])\w+\4\s*:)"""
)
"""The beginning of a conversation that was written as text: of its first message the first key, or any that names its role."""
WRITTEN_TEXTS = re.compile(r"""\s*\[\s*['"]""")
"""The beginning of a list of texts that was written as text."""
ARRAY = re.compile(r"\s*array\((.*?)(?:,\s*dtype=\w+)?\)\s*", re.DOTALL)
"""NumPy's form of an array as text."""
BETWEEN_ROWS_OF_AN_ARRAY = re.compile(r"\}\s*\n\s*\{")
"""NumPy writes arrays without commas; within Python's quotes a line break is an escape, so this is never part of a text."""
TURN = re.compile(r"(?:\r?\n){2}(System|Human|User|Assistant):")


def as_python(value: Any) -> Any:
    """Return a value with NumPy arrays and tuples as lists, at any depth."""
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [as_python(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): as_python(item) for key, item in value.items()}
    return value


def without_nulls(value: Any) -> Any:
    """Return a value without keys whose value is null, at any depth, as Parquet fills them in."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def written_conversation(text: str, name: str) -> Any:
    """Return the messages of a conversation that was written as JSON or Python text; other texts unchanged.

    Raises PairsError for a text that begins like a conversation and cannot be parsed.
    """
    if not WRITTEN.match(text):
        return text
    array = ARRAY.fullmatch(text)
    text = (array.group(1) if array else text).strip()
    for parse in (json.loads, ast.literal_eval):
        for candidate in (text, BETWEEN_ROWS_OF_AN_ARRAY.sub("}, {", text)):
            try:
                return parse(candidate)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    raise PairsError(
        f"{name} is a conversation written as text ({text.strip()[:30]!a} ...) that is not complete; write it as JSON."
    )


def without_lists(prompt: Any, chosen: Any, rejected: Any, counts: Counter[str]) -> tuple[Any, Any, Any]:
    """Return prompt and answers with lists of one text as that text, also where they are written as text ("['one text']").

    Written lists are taken apart only where prompt and answers are all written so, since an answer may be a list in JSON.

    Raises PairsError for a list of several texts, and where only the answers are written as lists.
    """
    written = [_written_texts(value) for value in (prompt, chosen, rejected)]
    if written[1] and written[2]:
        if not written[0] and isinstance(prompt, str):
            raise PairsError(
                f"chosen and rejected are lists written as text ({chosen.strip()[:30]!a}), but the prompt is not; choose the "
                'layout "text" (--map layout=text) if the answers are these lists, or write them as plain text.'
            )
        prompt, chosen, rejected = (texts or value for texts, value in zip(written, (prompt, chosen, rejected)))
    if not _is_texts(chosen) or not _is_texts(rejected):
        return prompt, chosen, rejected
    for name, value in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
        if _is_texts(value) and len(value) > 1:
            raise PairsError(f"{name} is a list of {len(value)} texts; write one text, or messages with role and content.")
    counts["lists of one text read as that text"] += 1
    return prompt[0] if _is_texts(prompt) else prompt, chosen[0], rejected[0]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _written_texts(value: Any) -> list[str] | None:
    """The texts of a list that was written as JSON or Python text; None for anything else."""
    if not isinstance(value, str) or not WRITTEN_TEXTS.match(value):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            texts = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else None
    return None


def to_messages(value: Any, name: str) -> list[Message]:
    """Convert a list of messages, or a single one, to messages with role and content; null keys are left out.

    Raises PairsError for content that cannot be trained on, such as images.
    """
    items = [value] if isinstance(value, dict) else value
    return [_message(item, f"message {number} of {name}") for number, item in enumerate(items, 1)]


def _message(item: Any, place: str) -> Any:
    if not isinstance(item, dict):
        return item  # `validate` names it
    message = {key: value for key, value in item.items() if value is not None}
    if "from" in message and "role" not in message:
        message["role"] = message.pop("from")
    if "value" in message and "content" not in message:
        message["content"] = message.pop("value")
    role = message.get("role")
    if isinstance(role, str):
        if role in CALLS:
            return {"role": "assistant", "content": None, "tool_calls": _calls_of(message.get("content"), place)}
        message["role"] = ROLES.get(role.lower(), role.lower() if role.lower() in KNOWN_ROLES else role)
    if isinstance(message.get("content"), list):
        message["content"] = _joined(message["content"], place)
    if isinstance(message.get("function_call"), dict):  # OpenAI's older form
        message["tool_calls"] = [{"type": "function", "function": message.pop("function_call")}]
    if message.get("tool_calls") == []:
        del message["tool_calls"]
    if message.get("tool_calls") and "content" not in message:
        message["content"] = None
    elif message.get("reasoning_content") and "content" not in message and "content" in item:
        message["content"] = ""
    return message


def _joined(parts: list[Any], place: str) -> str:
    texts = []
    for number, part in enumerate(parts, 1):
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
            described = f"of type {kind!r}" if kind else f"that is {json_type(part)}"
            raise PairsError(f"{place} has a part {described} (part {number} of its content); only text can be trained on.")
        texts.append(part["text"])
    return "".join(texts)


def _calls_of(content: Any, place: str) -> list[dict[str, Any]]:
    """The tool calls of ShareGPT's turn `function_call`, whose text is the JSON of one call or several."""
    try:
        calls = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        calls = None
    calls = [calls] if isinstance(calls, dict) else calls
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise PairsError(f'{place} is a function call that is not JSON; write {{"name": ..., "arguments": ...}}.')
    return [call if "function" in call else {"type": "function", "function": call} for call in calls]


def parsed_list(text: str, name: str) -> Any:
    """Return the list that is written as JSON or Python text; None for blank text. Raises PairsError for other text."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip()) if text.strip() else None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise PairsError(f"{name} is text that is no list; write it as JSON.")


def transcript(text: str) -> list[Message] | None:
    """Return the messages of a transcript of Human: (or User:) and Assistant: turns (HH-RLHF); None for other texts."""
    text = "\n\n" + text.lstrip()
    parts = TURN.split(text)
    if parts[0].strip() or len(parts) < 5:  # ["", role, text, role, text, ...]
        return None
    roles = {"System": "system", "Human": "user", "User": "user", "Assistant": "assistant"}
    return [{"role": roles[role], "content": content.strip()} for role, content in zip(parts[1::2], parts[2::2])]


def to_tools(value: Any) -> list[dict[str, Any]] | None:
    """Return descriptions of tools from a list, one object, or their JSON text; None where there are none."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError) as error:
            raise PairsError(f"tools is text that is not JSON ({error}); give a list of objects that describe functions.") from None
    tools = [value] if isinstance(value, dict) else value
    return tools or None


def plain_answer(side: Any) -> Any:
    """Return the text of a single assistant message with nothing but content; other answers unchanged."""
    if isinstance(side, list) and len(side) == 1 and isinstance(side[0], dict):
        message = side[0]
        if message.keys() == {"role", "content"} and message["role"] == "assistant" and isinstance(message["content"], str):
            return message["content"]
    return side


def has_calls(value: Any) -> bool:
    """Whether a value is a conversation with tool calls."""
    return isinstance(value, list) and any(isinstance(item, dict) and item.get("tool_calls") for item in value)


def last_text(side: Any) -> Any:
    """Return the content of the last message; a text unchanged."""
    if isinstance(side, list):
        return side[-1].get("content") if side and isinstance(side[-1], dict) else None
    return side


def begins(side: Any, prompt: list[Any]) -> bool:
    """Whether a conversation begins with the messages of a prompt."""
    return isinstance(side, list) and len(side) >= len(prompt) and side[: len(prompt)] == prompt
