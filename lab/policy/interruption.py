"""Points in long computations of this package at which a caller may break them off, by raising an exception.

Each thread has its own check. A backward pass on the CPU runs in the thread that called it. On a GPU it runs in another one, and is
not checked.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_local = threading.local()


@contextlib.contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Inside, `check` is called in this thread at every `interruption_point`."""
    before = getattr(_local, "check", None)
    _local.check = check
    try:
        yield
    finally:
        _local.check = before


def interruption_point() -> None:
    """Call this thread's check, if there is one."""
    check = getattr(_local, "check", None)
    if check is not None:
        check()
