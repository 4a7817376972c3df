"""Base classes of the lab's errors: one sentence each, which a notebook shows without a long traceback."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LIBRARIES = tuple({str(Path(__file__).parent), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")})


class LabError(ValueError):
    """An operation that is not possible, in one sentence: what, where, and what to do instead."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows in place of a traceback: the caller's line, and the sentence."""
        own = [frame for frame in traceback.extract_tb(self.__traceback__) if not frame.filename.startswith(LIBRARIES)]
        place = [f"line {own[-1].lineno}: {own[-1].line}"] if own and own[-1].line else []
        return [*place, f"{type(self).__name__}: {self}"]


class FigureError(LabError):
    """A figure that does not exist."""


def did_you_mean(word: object, names: Iterable[str]) -> str:
    """Return " Did you mean 'steps'?" for the name closest to a misspelled word, or "" where none is close.

    Appended to an error message, hence the leading space.
    """
    spelled = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(word).lower(), spelled, n=1)
    return f" Did you mean {spelled[close[0]]!r}?" if close else ""


_LIMITS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def requirement(detail: Mapping[str, Any]) -> str:
    """Return what a wrong value must be, in plain words without a full stop: "it must be at least 0".

    Args:
        detail: An entry of `pydantic.ValidationError.errors()`.
    """
    if detail["type"] in _LIMITS:
        key, text = _LIMITS[detail["type"]]
        limit = detail["ctx"][key]
        return f"it must be {text} {limit:g}" if isinstance(limit, float) else f"it must be {text} {limit}"
    return str(detail["msg"]).removeprefix("Value error, ").rstrip(".")
