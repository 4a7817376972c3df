"""Text from data in places that Streamlit would read as Markdown."""

from __future__ import annotations

import html
import re


def plain(text: object) -> str:
    """Markdown that shows `text` as it is, on one line: all ASCII punctuation is escaped, so nothing is markup, link or formula."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))


def markup(text: str) -> str:
    """HTML that shows `text` as it is."""
    return html.escape(text, quote=True)
