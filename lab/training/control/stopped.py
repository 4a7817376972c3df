"""The exception that stops a run."""

from __future__ import annotations


class Stopped(BaseException):
    """Raised to stop the run; not an Exception, so that code with a fallback for errors does not catch it.

    Args:
        reason: Why the run stops by itself, in one sentence; None for a requested stop.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or "a stop was requested")
        self.reason = reason
