"""Escape data for places where Streamlit reads Markdown or HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from lab.pairs.checks.characters import reveal_invisible

_APART = ":blue[]"
"""An empty coloured text, which shows nothing and keeps two characters apart that Markdown would replace together."""
_REPLACED = re.compile(r"(https?\\:(?=//)|www(?=\.)|[\w.+-](?=@\w)|\\:(?=material/|streamlit\\:))", re.IGNORECASE)
"""Beginnings of addresses, which Markdown would make links of, and of icons, in escaped Markdown."""
_ARROWS = re.compile(r"(?<!\S)(\\<-\\>|\\?-\\>|\\<-|\\?--|\\>=|\\<=|\\~=)(?!\S)")
"""Signs that Streamlit would replace by arrows, dashes and other signs, in escaped Markdown."""

LONGEST = 1500
"""Most characters of a text on one line."""


def editable(text: str) -> str:
    """Return a text that can be sent to a field of a page: unpaired surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def displayable(text: str) -> str:
    """Return a text to be read on a page: characters that nobody would see become code points, such as ⟨U+202E⟩."""
    return editable(reveal_invisible(text))


def one_line(text: str) -> str:
    """Return a text to be read on a page, on one line."""
    return " ".join(displayable(text).split())


def plain(text: object) -> str:
    """Return Markdown that shows `text` literally on one line: no markup, images, links, formulas, colours or icons.

    Only characters that can be markup are escaped, because screen readers read labels as they are written. The middle of a text
    of more than `LONGEST` characters is left out.
    """
    message = one_line(str(text))
    if len(message) > LONGEST:
        message = f"{message[: LONGEST * 2 // 3]} ... {message[-LONGEST // 4 :]}"
    escaped = re.sub(r"([\\`*_\[\]{}<>$:~|#!&^])", r"\\\1", message)
    escaped = re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", escaped)
    escaped = _REPLACED.sub(rf"\1{_APART}", escaped)
    return _ARROWS.sub(lambda sign: _APART.join(re.findall(r"\\?.", sign.group())), escaped)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a small table as Markdown, with all cells shown literally. Long texts wrap."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[text if text == "---" else plain(text) for text in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def markup(text: str) -> str:
    """Return HTML that shows `text` literally, with characters that nobody would see as code points."""
    return html.escape(displayable(text), quote=True)
