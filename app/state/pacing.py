"""Intervals at which pages redraw themselves while a run trains."""

from __future__ import annotations

INTERVAL, LONGEST = 1.0, 4.0
"""Seconds between two drawings of a live run, at least and at most."""

SHARE = 0.035
"""Share of the time that drawings may take if the run trains in this process; the interval is chosen for it."""
