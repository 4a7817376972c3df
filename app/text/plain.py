"""Text from data in places that Streamlit would read as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

LONGEST = 1500
"""Characters of a text on one line."""


def plain(text: object) -> str:
    """Markdown that shows `text` as it is, on one line: nothing in it is markup, an image, a formula, a colour or an icon.

    Only what can be markup is escaped, because labels are also read out as they are written. Of a text of more than `LONGEST`
    characters the middle is left out; halves of characters, which no page can carry, become question marks.
    """
    message = " ".join(str(text).encode("utf-8", "replace").decode("utf-8").split())
    if len(message) > LONGEST:
        message = f"{message[: LONGEST * 2 // 3]} ... {message[-LONGEST // 4 :]}"
    escaped = re.sub(r"([\\`*_\[\]{}<>$:~|#!&^])", r"\\\1", message)
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", escaped)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small table as Markdown, all of it as it is: its texts wrap where they are long, and none is cut."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[text if text == "---" else plain(text) for text in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def markup(text: str) -> str:
    """HTML that shows `text` as it is."""
    return html.escape(text, quote=True)
