"""Stop a run before memory runs out and the kernel ends its process.

A thread reads the memory available to the process (of the machine, and within the limits of its control groups). When it is low
and this process has grown since the run began, `MemoryGuard.reason` returns a message, and the run stops at its next check (see
`stopping`): the interrupted computation is freed, and a checkpoint of the last step is written.
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
"""Limits, in bytes, of the reserve: a fortieth of the memory that this process may use. OURS."""
GROWN = 32 * 10**6
"""Bytes by which the process must have grown since the run began; otherwise other processes use up the memory. OURS."""

NOTHING_TO_SAVE = (
    "It was still being prepared, so there was nothing to save; start it again where more memory is free, or with a smaller "
    "micro_batch_size (or fit)."
)
"""Appended to the reason where a run stops during its preparation."""


def saved_message(step: int) -> str:
    """Return the sentence appended to the reason once the checkpoint of step `step` is written."""
    return (
        f"There is a checkpoint of its last step, {step:,}; resume where more memory is free, or branch from it with a smaller "
        "micro_batch_size (or fit)."
    )


@dataclass(frozen=True)
class MemoryReading:
    """Bytes available to this process, and bytes that it holds (resident set)."""

    available: int
    resident: int


def read_memory() -> MemoryReading:
    """Read the available and the resident memory."""
    return MemoryReading(available_bytes(torch.device("cpu")), resident_bytes())


class MemoryGuard:
    """Watches memory inside a `with` block.

    Args:
        read: Takes a reading; replaced in tests.
        limit: Bytes that this process may use; None reads the limit.
        interval: Seconds between readings while memory is low; four times as long otherwise.
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
        """Return why the run has to stop, in one sentence; None while there is enough memory."""
        return self._reason

    def check(self) -> None:
        """Take a reading and set the reason if memory is low.

        The process may grow once more by as much as since the last reading before the run has stopped, so that is added to the
        reserve.
        """
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
        self.check()
        self._thread = threading.Thread(target=self._watch, name="memory-guard", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        # A reading takes half a millisecond, so readings are frequent only where memory may run out before the next.
        while not self._ended.wait(self._interval * (1 if self._low else 4)):
            self.check()

    @property
    def _low(self) -> bool:
        return self._last is None or self._last.available < 8 * self.reserve
