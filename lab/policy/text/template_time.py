"""The date and time that chat templates print."""

from __future__ import annotations

from datetime import datetime


def as_moment(text: str) -> datetime:
    """Parse a date and time in ISO format; an empty text means now. Raises ValueError for other texts."""
    if not text:
        return now()
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise ValueError(f"{text!r} is no date or time; write 2026-01-31 or 2026-01-31T12:00:00") from None


def now() -> datetime:
    """Return the local date and time in whole seconds, as templates get it."""
    return datetime.now().replace(microsecond=0)
