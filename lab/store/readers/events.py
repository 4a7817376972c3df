"""Read the events of a run: warnings, changes, checkpoints, evaluations, requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .connection import StoreConnection

if TYPE_CHECKING:
    import pandas as pd


class EventReader:
    """Events of a run, numbered in the order in which they were recorded."""

    def __init__(self, connection: StoreConnection) -> None:
        self._store = connection

    def read(self, *kinds: str, after: int = 0, most: int | None = None, without: Sequence[str] = ()) -> pd.DataFrame:
        """Return events, oldest first.

        Args:
            kinds: Only these kinds; none given reads all.
            after: Only events with a higher number.
            most: At most this many events.
            without: Keys of the detail to leave out, such as "samples" (the sampled answers of an evaluation), which take most
                of the time when there are thousands of evaluations. `detail` returns them for one event.

        Returns:
            A frame with number, time (Unix seconds), step, kind and detail (a dict).
        """
        import pandas as pd

        only = f" AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        # SQLite rejects JSON with NaN or Infinity, which Python writes and reads: such a detail is returned whole.
        less = f"CASE WHEN json_valid(detail) THEN json_remove(detail{', ?' * len(without)}) ELSE detail END"
        detail = less if without else "detail"
        rows = self._store.query(
            f"SELECT number, time, step, kind, {detail} FROM events WHERE number > ?{only} ORDER BY number LIMIT ?",
            (*(f"$.{name}" for name in without), after, *kinds, -1 if most is None else most),
        )
        return pd.DataFrame([(*row[:4], json.loads(row[4])) for row in rows], columns=["number", "time", "step", "kind", "detail"])

    def detail(self, number: int) -> dict[str, Any]:
        """Return the whole detail of the event with this number. Raises KeyError if the run has no such event."""
        rows = self._store.query("SELECT detail FROM events WHERE number = ?", (number,))
        if not rows:
            raise KeyError(f"The run has no event {number}; it may have been removed when the run resumed from a checkpoint.")
        detail: dict[str, Any] = json.loads(rows[0][0])
        return detail
