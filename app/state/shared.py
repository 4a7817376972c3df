"""Values that the sessions of a class lab share: many browsers show the same run, and its figures are built once for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.state import access

MOST = 256
"""Most values that are kept; the oldest are dropped."""

T = TypeVar("T")


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: float | None = None
    value: Any = None


_entries: dict[Hashable, _Entry] = {}
_lock = threading.Lock()


def shared(key: Hashable, make: Callable[[], T], seconds: float) -> T:
    """Return a value that another session made at most some seconds ago, else make it.

    Sessions that need the same value at the same time wait for the one that makes it. A lab that is not for a class shares nothing.

    Args:
        key: Everything the value depends on, except what changes by the passing of time.
        make: Makes the value.
        seconds: How old the value may be.
    """
    if not access.in_class():
        return make()
    with _lock:
        while len(_entries) >= MOST and key not in _entries:
            del _entries[next(iter(_entries))]
        entry = _entries.setdefault(key, _Entry())
    with entry.lock:
        if entry.made is None or time.monotonic() - entry.made > seconds:
            entry.value = make()
            entry.made = time.monotonic()
        value: T = entry.value
        return value
