"""Requests and outcomes of the runs that train in this process, kept in memory, so that both work while the disk is full."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """End of a run in this process: its state, step and reason.

    Attributes:
        state: finished, stopped or failed.
        step: Optimizer steps done.
        error: Why it failed, in one sentence, or None.
        reason: Why it stopped by itself, in one sentence, or None.
    """

    state: str
    step: int
    error: str | None = None
    reason: str | None = None


# Only atomic operations are used on these, so that a signal handler may send a request too.
_inboxes: dict[Path, deque[tuple[str, str, dict[str, Any]]]] = {}
_outcomes: dict[Path, Outcome] = {}


def begin(folder: Path) -> None:
    """Accept requests for the run in `folder` in memory from now on, and forget the outcome of an earlier training of it."""
    _outcomes.pop(folder.resolve(), None)
    _inboxes[folder.resolve()] = deque()


def end(folder: Path, outcome: Outcome) -> list[tuple[str, str, dict[str, Any]]]:
    """Accept no more requests for the run in `folder`, and store how it ended; return the requests that were not handled."""
    _outcomes[folder.resolve()] = outcome
    return list(_inboxes.pop(folder.resolve(), ()))


def outcome_of(folder: Path) -> Outcome | None:
    """Return how the run in `folder` ended in this process; None if it did not train here, or is still training."""
    return _outcomes.get(folder.resolve())


def unwritten_outcome(folder: Path, status: Mapping[str, Any]) -> Outcome | None:
    """Return how the run in `folder` ended where only this process knows it, because the disk was full.

    Args:
        folder: Folder of the run.
        status: Its stored status, which says that it trains; the run's lock is not held.
    """
    return outcome_of(folder) if status.get("process") == os.getpid() else None


def put(folder: Path, id: str, kind: str, detail: dict[str, Any]) -> bool:
    """Add a request for a run that trains in this process; returns False if it does not."""
    inbox = _inboxes.get(folder.resolve())
    if inbox is None:
        return False
    inbox.append((id, kind, json.loads(json.dumps(detail))))  # as it would be read from a file
    return True


def waiting(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (id, kind, detail) of every pending request, oldest first."""
    return list(_inboxes.get(folder.resolve(), ()))


def taken(folder: Path, request: tuple[str, str, dict[str, Any]]) -> None:
    """Remove a request that was read with `waiting`."""
    inbox = _inboxes.get(folder.resolve())
    if inbox is not None and request in inbox:
        inbox.remove(request)
