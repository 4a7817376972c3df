"""Base of the lab's own errors: one sentence each, shown in a notebook without a long traceback."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

LIBRARIES = tuple({str(Path(__file__).parent), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")})


class LabError(ValueError):
    """Something that cannot be done, in one sentence that says what, where and what to do instead."""

    def _render_traceback_(self) -> list[str]:
        """Lines that IPython shows in place of a traceback: the caller's line, and the sentence."""
        own = [frame for frame in traceback.extract_tb(self.__traceback__) if not frame.filename.startswith(LIBRARIES)]
        place = [f"line {own[-1].lineno}: {own[-1].line}"] if own and own[-1].line else []
        return [*place, f"{type(self).__name__}: {self}"]


class FigureError(LabError):
    """A figure that does not exist, in one sentence."""
