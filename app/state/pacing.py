"""Intervals at which pages redraw themselves while a run trains."""

from __future__ import annotations

from app.state import access

INTERVAL, LONGEST = 1.0, 4.0
"""Seconds between two drawings of a live run, at least and at most."""

SHARE = 0.035
"""Share of the time that drawings may take if the run trains in this process; the interval is chosen for it."""

CLASS_INTERVAL = 2.0
"""Seconds between two drawings in a class lab, at least: thirty pages at once leave less of the processor for each."""

CLASS_SHARING = 0.5
"""Seconds for which the pages of a class lab share a figure."""


def shortest_interval() -> float:
    """Return the seconds between two drawings of a live run, at least."""
    return CLASS_INTERVAL if access.in_class() else INTERVAL
