"""Helpers of the dashboard's tests without a browser: opening a page, and reading it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from app.pages import Page

MAIN = str(Path(__file__).parents[2] / "app" / "main.py")
KINDS = ("title", "header", "subheader", "markdown", "text", "caption", "error", "warning", "info", "code", "success", "html")


def open_page(page: Page | None = None, *, session: Mapping[str, Any] | None = None, timeout: float = 60, **query: str) -> AppTest:
    """Draw a page of the dashboard (None for the first) with values of its session and parameters of its address."""
    app = AppTest.from_file(MAIN, default_timeout=timeout)
    if page is not None:
        app.switch_page(page.file)
    for name, value in query.items():
        app.query_params[name] = value
    for name, value in (session or {}).items():
        app.session_state[name] = value
    app.run()
    assert not app.exception
    return app


def page_text(app: AppTest, *, escaped: bool = False) -> str:
    """Return all text of a page; escaped: with the backslashes that Markdown needs."""
    parts = [str(element.proto.body if kind == "html" else element.value) for kind in KINDS for element in app.get(kind)]
    text = "\n".join(parts)
    return text if escaped else unescaped(text)


def unescaped(markdown: str) -> str:
    """Return the text that Markdown made by `app.text.plain.plain` shows."""
    return markdown.replace("\\", "").replace(":blue[]", "")
