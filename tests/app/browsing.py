"""Helpers of the browser tests: reading a page."""

from __future__ import annotations

from typing import Any


def body(page: Any) -> str:
    """All that a page says."""
    return page.inner_text("body")


def address_of(page: Any) -> str:
    """Where a page is now. (Playwright's own `page.url` learns of it only while Playwright is asked for something.)"""
    return str(page.evaluate("location.href"))
