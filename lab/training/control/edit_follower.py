"""When a run that follows its pair set takes edits."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from lab.pairs import PairsError

INTERVAL = 1.0
"""Least seconds between two looks at the version of the pair set."""

SHARE = 0.05
"""Largest share of the time that taking edits may take: after t seconds the next ones are taken t / SHARE seconds later. OURS."""


class EditFollower:
    """Decides between two steps whether a run takes the edits made since; asks the pair store at most once a second.

    Args:
        newest: Returns the newest version of the pair store.
        warn: Receives a sentence where the store cannot be read.
        clock: Returns seconds.
    """

    def __init__(self, newest: Callable[[], int], warn: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._newest, self._warn, self._clock = newest, warn, clock
        self._next_look = float("-inf")
        self._refused = -1
        self._warned = ""

    def version_to_take(self, used: int) -> int | None:
        """Return the version of the pair set to train on from now on; None to stay with version `used`."""
        now = self._clock()
        if now < self._next_look:
            return None
        self._next_look = now + INTERVAL
        try:
            newest = self._newest()
        except (PairsError, OSError, sqlite3.Error) as error:
            if str(error) != self._warned:
                self._warned = str(error)
                self._warn(f"The run cannot follow its pairs for the moment and stays with version {used} of them: {error}")
            return None
        return newest if newest > used and newest != self._refused else None

    def took(self, seconds: float) -> None:
        """Take the next edits not before the time spent on these is SHARE of the time since. seconds: time spent."""
        self._next_look = self._clock() + max(INTERVAL, seconds / SHARE)

    def refuse(self, version: int) -> None:
        """Do not try this version again; a newer one is tried."""
        self._refused = version
