"""Stop a run that outgrows memory while it trains, before the kernel ends the process it trains in.

A thread reads how much memory is left: of the machine, and below the limits of the process's control groups. When little is left
and this process has grown since the run began, `reason` says so, and the run stops at its next check (see `stopping`): what it was
computing is freed, and a checkpoint of its last step is written if it trained already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch

from lab.policy.memory import available_bytes, memory_limit, resident_bytes
from lab.run.preflight_report import size

LEAST, MOST = 64 * 10**6, 512 * 10**6
"""The reserve is a fortieth of the memory that this process may use, but at least and at most this."""
GROWN = 32 * 10**6
"""A process that has grown by less than this since the run began is not what fills the memory."""

NOTHING_TO_SAVE = (
    "It was still being prepared, so there was nothing to save; start it again where more memory is free, or with a smaller "
    "micro_batch_size (or fit)."
)
"""What a run that was still being prepared adds to the reason for which it stopped."""


def saved(step: int) -> str:
    """What a run adds to that reason once the checkpoint of its last step is written."""
    return (
        f"There is a checkpoint of its last step, {step:,}; resume where more memory is free, or branch from it with a smaller "
        "micro_batch_size (or fit)."
    )


@dataclass(frozen=True)
class MemoryReading:
    """Bytes that are left, and bytes that this process holds."""

    available: int
    resident: int


def read_memory() -> MemoryReading:
    """The machine's memory and this process's share of it, now."""
    return MemoryReading(available_bytes(torch.device("cpu")), resident_bytes())


class MemoryGuard:
    """Watches memory inside a `with` block.

    read: replaced in tests.   limit: bytes that this process may use at most; None reads it.   interval: seconds between readings.
    """

    def __init__(self, *, read: Callable[[], MemoryReading] = read_memory, limit: int | None = None, interval: float = 0.1) -> None:
        self._read, self._interval = read, interval
        self._limit = memory_limit() if limit is None else limit
        self.reserve = min(max(self._limit // 40, LEAST), MOST)
        self._first: MemoryReading | None = None
        self._last: MemoryReading | None = None
        self._reason: str | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def reason(self) -> str | None:
        """Why the run has to stop, in one sentence; None while there is memory."""
        return self._reason

    def look(self) -> None:
        """Take one reading. What the process grew by since the last one, it may grow by again before the run has stopped."""
        now = self._read()
        first, last = self._first or now, self._last or now
        self._first, self._last = first, now
        growth = max(now.resident - last.resident, 0)
        if self._reason is None and now.available < self.reserve + growth and now.resident - first.resident > GROWN:
            self._reason = (
                f"The run stopped itself because memory ran low: {size(now.available)} of {size(self._limit)} were left while this "
                f"process held {size(now.resident)}, and the system would have ended it."
            )

    def __enter__(self) -> Self:
        self._first = self._last = self._reason = None
        self._ended.clear()
        self.look()
        self._thread = threading.Thread(target=self._watch, name="memory-guard", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        # A reading costs half a millisecond, so it is taken often only where memory may run out before the next.
        while not self._ended.wait(self._interval * (1 if self._near else 4)):
            self.look()

    @property
    def _near(self) -> bool:
        return self._last is None or self._last.available < 8 * self.reserve
