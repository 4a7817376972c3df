"""The running and waiting runs of each device of this machine, over all processes that share one `LAB_HOME`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import home
from lab.store import RunError

from .device_queue import DeviceQueue, queues


@dataclass(frozen=True)
class Place:
    """A run in a device's queue.

    Attributes:
        device: Name of the device.
        place: 0 for the run that trains, 1 for the next one, and so on.
        run: The run's folder.
        behind: Folder of the run directly before it, or None.
    """

    device: str
    place: int
    run: Path
    behind: Path | None

    @property
    def message(self) -> str:
        """The place as text: "training on cpu", or "place 2 on cpu, behind 20260101-120000-dpo"."""
        if self.place == 0:
            return f"training on {self.device}"
        return f"place {self.place} on {self.device}" + (f", behind {self.behind.name}" if self.behind else "")


def queue() -> list[Place]:
    """Return the queued runs of this machine, by device: the one that trains, then the waiting ones in their order.

    Runs started with queue=False are not included.
    """
    places = []
    for device_queue in queues(home.queue_dir()):
        state = device_queue.read()
        runs = [state.training, *state.waiting] if state.training else state.waiting
        places += [Place(device_queue.device, state.place(run) or 0, run, state.ahead(run)) for run in runs if run]
    return places


def place_of(run: Path) -> Place | None:
    """Return the place of the run in a folder, or None if it is in no queue."""
    folder = run.resolve()
    return next((place for place in queue() if place.run == folder), None)


def move(run: Path, place: int) -> Place:
    """Move a waiting run to another place of its queue; 1 is next.

    Raises RunError if the run is not waiting, or for a place below 1.
    """
    now = place_of(run)
    if now is None or now.place == 0:
        raise RunError(f"The run {run.name} is not waiting for a device, so it has no place to change.")
    state = DeviceQueue(home.queue_dir(), now.device).move(now.run, place)
    return Place(now.device, state.place(now.run) or 0, now.run, state.ahead(now.run))
