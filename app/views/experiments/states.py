"""Words, colours and icons of the states of experiments and of their runs."""

from __future__ import annotations

from app.text.run_text import STATES, Colour

EXPERIMENT_STATES: dict[str, tuple[str, Colour, str]] = {
    "running": ("Running", "green", "play_arrow"),
    "paused": ("Paused", "orange", "pause"),
    "stopping": ("Stopping", "orange", "stop"),
    "waiting": ("Waiting", "gray", "hourglass_top"),
    "finished": ("Finished", "blue", "check"),
    "stopped": ("Stopped", "gray", "stop"),
    "failed": ("Failed", "red", "error"),
    "interrupted": ("Interrupted", "red", "heart_broken"),
}
"""Label, colour and icon of each state of an experiment."""

RUN_STATES: dict[str, tuple[str, Colour, str]] = STATES | {"waiting": ("Waiting", "gray", "hourglass_empty")}
"""Those of a run; one that was not begun is waiting."""
