"""Who trains where, and who waits: the queues of this machine, over all processes that share one `LAB_HOME`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import home
from lab.store import RunError

from .device_queue import DeviceQueue, queues


@dataclass(frozen=True)
class Place:
    """A run in a device's queue. place: 0 trains now, 1 is next.   behind: the run before it, or None."""

    device: str
    place: int
    run: Path
    behind: Path | None

    @property
    def message(self) -> str:
        """ "training on cpu", or "place 2 on cpu, behind 20260101-120000-dpo"."""
        if self.place == 0:
            return f"training on {self.device}"
        return f"place {self.place} on {self.device}" + (f", behind {self.behind.name}" if self.behind else "")


def queue() -> list[Place]:
    """Every run that trains in its turn or waits for it on this machine: by device, in their order.

    Runs that were started with queue=False are not in it.
    """
    found = []
    for one in queues(home.queue_dir()):
        line = one.read()
        runs = [line.training, *line.waiting] if line.training else line.waiting
        found += [Place(one.device, line.place(run) or 0, run, line.ahead(run)) for run in runs if run]
    return found


def place_of(run: Path) -> Place | None:
    """Where a run stands, by its folder; None if it is in no queue."""
    folder = run.resolve()
    return next((place for place in queue() if place.run == folder), None)


def move(run: Path, place: int) -> Place:
    """Put a waiting run at another place of its queue (1 is next). Raises RunError if it does not wait, or for a place below 1."""
    now = place_of(run)
    if now is None or now.place == 0:
        raise RunError(f"The run {run.name} is not waiting for a device, so it has no place to change.")
    line = DeviceQueue(home.queue_dir(), now.device).move(now.run, place)
    return Place(now.device, line.place(now.run) or 0, now.run, line.ahead(now.run))
