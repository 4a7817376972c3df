"""Points in long computations of this package at which a caller can interrupt them by raising an exception.

Each thread has its own check. A backward pass on the CPU runs in the calling thread; on a GPU it runs in another thread and cannot
be interrupted.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

CountProgress = Callable[[int, int], None]
"""Called with (items done, items in total) between the parts of a computation; may raise to interrupt it."""

_local = threading.local()


@contextlib.contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Call `check` at every `interruption_point` that this thread reaches inside the block."""
    previous = getattr(_local, "check", None)
    _local.check = check
    try:
        yield
    finally:
        _local.check = previous


def interruption_point() -> None:
    """Call this thread's check, if there is one."""
    check = getattr(_local, "check", None)
    if check is not None:
        check()
