"""Pairs with a hostile text in every field."""

from __future__ import annotations

from collections.abc import Sequence

from lab.pairs import Message, Pair


def with_text(text: str, id: str = "one") -> Pair:
    """A pair of plain texts with a text in every field."""
    meta = {"column": text, text[:40]: [text]}
    return Pair(id, text, text, f"{text}!", meta=meta, tags=(text.strip()[:60],), note=text, weight=0.5, degree=0.25)


def conversation_with(texts: Sequence[str], id: str = "two") -> Pair:
    """A conversation with texts in every part of its messages and of its tools."""
    prompt: list[Message] = [{"role": "system", "content": "\n\n".join(texts)}]
    answer: list[Message] = []
    for text in texts:
        prompt.append({"role": "user", "content": text})
        call = {"type": "function", "function": {"name": text, "arguments": {text: text}}}
        answer += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "name": text, "content": text},
            {"role": "assistant", "content": text, "reasoning_content": text},
        ]
    tools = [{"name": text} for text in texts]
    return Pair(id, prompt, answer, "\n\n".join(texts), meta={"columns": {text[:40]: text for text in texts}}, tools=tools)
