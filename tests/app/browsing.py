"""What the browser tests share: waiting, and reading a page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest


def body(page: Any) -> str:
    """All that a page says."""
    return page.inner_text("body")


def until(find: Callable[[], Any], seconds: float, say: Callable[[], str] = str) -> Any:
    """What `find` returns once it is true; fails with what `say` returns when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s in vain. {say()[-3000:]}")
        time.sleep(0.2)
    return found


def address_of(page: Any) -> str:
    """Where a page is now. (Playwright's own `page.url` learns of it only while Playwright is asked for something.)"""
    return str(page.evaluate("location.href"))
