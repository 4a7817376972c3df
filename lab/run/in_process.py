"""Runs that train in this process: their requests and how they ended, kept in memory.

A full disk takes neither a request file nor the last status of a run. What concerns one process alone therefore needs no disk.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """How a run ended in this process. state: finished, stopped or failed. error, reason: why, in one sentence."""

    state: str
    step: int
    error: str | None = None
    reason: str | None = None


# Only operations that the interpreter does at once are used on these, so that a signal handler may send a request, too.
_inboxes: dict[Path, deque[tuple[str, str, dict[str, Any]]]] = {}
_outcomes: dict[Path, Outcome] = {}


def begin(folder: Path) -> None:
    """Take requests for the run in `folder` in memory from now on; forget how an earlier training of it ended."""
    _outcomes.pop(folder.resolve(), None)
    _inboxes[folder.resolve()] = deque()


def end(folder: Path, outcome: Outcome) -> None:
    """Take no more requests, and remember how the run ended."""
    _inboxes.pop(folder.resolve(), None)
    _outcomes[folder.resolve()] = outcome


def outcome_of(folder: Path) -> Outcome | None:
    """How the run in `folder` ended in this process; None if it did not train here, or still does."""
    return _outcomes.get(folder.resolve())


def put(folder: Path, id: str, kind: str, detail: dict[str, Any]) -> bool:
    """Leave a request for a run that trains in this process; False if it does not."""
    inbox = _inboxes.get(folder.resolve())
    if inbox is None:
        return False
    inbox.append((id, kind, json.loads(json.dumps(detail))))  # as it would be read from a file
    return True


def waiting(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """The (id, kind, detail) of every request that was put and not taken, oldest first."""
    return list(_inboxes.get(folder.resolve(), ()))


def taken(folder: Path, request: tuple[str, str, dict[str, Any]]) -> None:
    """Remove a request that was read with `waiting`."""
    inbox = _inboxes.get(folder.resolve())
    if inbox is not None and request in inbox:
        inbox.remove(request)
