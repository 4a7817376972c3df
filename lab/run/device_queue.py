"""Device queues: one run trains on a device at a time, the others wait in an order that can be changed.

There is no server: each device has one small file, which every waiting run polls and every process may change. A run whose
lock (see `lock`) is no longer held has ended, and is removed from the file at the next change.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lab.store.folder import RunError

from .lock import is_held

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueState:
    """The run that trains on a device and the waiting ones, next one first, as absolute paths of their folders."""

    training: Path | None = None
    waiting: tuple[Path, ...] = ()

    def without(self, run: Path) -> QueueState:
        """Return the queue after a run has left it."""
        return QueueState(
            None if self.training == run else self.training,
            tuple(other for other in self.waiting if other != run),
        )

    def joined(self, run: Path) -> QueueState:
        """Return the queue with a run at its end."""
        rest = self.without(run)
        return replace(rest, waiting=(*rest.waiting, run))

    def moved(self, run: Path, place: int) -> QueueState:
        """Return the queue with a waiting run at `place`: 1 is next, numbers beyond the end are the end.

        Raises RunError if the run is not waiting, or for a place below 1.
        """
        if run not in self.waiting:
            raise RunError(f"The run {run.name} is not waiting for a device, so it has no place to change.")
        if place < 1:
            raise RunError(f"There is no place {place} in a queue; place 1 is the next to train.")
        rest = [other for other in self.waiting if other != run]
        return replace(self, waiting=(*rest[: place - 1], run, *rest[place - 1 :]))

    def without_ended(self, is_alive: Callable[[Path], bool]) -> QueueState:
        """Return the queue without runs whose lock is no longer held."""
        return QueueState(
            self.training if self.training is not None and is_alive(self.training) else None,
            tuple(run for run in self.waiting if is_alive(run)),
        )

    def advanced(self, run: Path) -> QueueState:
        """Return the queue after `run` has polled it: the run trains if it is next and the device is free."""
        joined = self if run == self.training or run in self.waiting else self.joined(run)
        if joined.training is None and joined.waiting[0] == run:
            return QueueState(run, joined.waiting[1:])
        return joined

    def place(self, run: Path) -> int | None:
        """Return 0 for the run that trains, 1 for the next one, and so on; None for a run that is not in the queue."""
        if run == self.training:
            return 0
        return self.waiting.index(run) + 1 if run in self.waiting else None

    def ahead(self, run: Path) -> Path | None:
        """Return the run directly before a waiting one, or None."""
        place = self.place(run)
        if not place:
            return None
        return self.waiting[place - 2] if place > 1 else self.training


class DeviceQueue:
    """The queue of one device, stored in `folder/device.json`. Safe to use from any thread and process.

    Methods that change it raise OSError if the folder cannot be written.

    Args:
        folder: Folder of this machine's queues.
        device: Name of the device.
        is_alive: Whether the run in a folder is still trained or waiting.
    """

    def __init__(self, folder: Path, device: str, *, is_alive: Callable[[Path], bool] = is_held) -> None:
        self.device = device
        self._path, self._lock, self._is_alive = folder / f"{device}.json", folder / f"{device}.lock", is_alive

    def read(self) -> QueueState:
        """Return the queue at this moment, without runs that have ended."""
        return self._stored().without_ended(self._is_alive)

    def join(self, run: Path) -> QueueState:
        """Add a run at the end of the queue."""
        return self._change(lambda queue: queue.joined(run))

    def advance(self, run: Path) -> QueueState:
        """Poll the queue: if the run is next and the device is free, it has the device until it leaves or its process ends."""
        return self._change(lambda queue: queue.advanced(run))

    def leave(self, run: Path) -> QueueState:
        """Give up the device, or the place in the queue."""
        return self._change(lambda queue: queue.without(run))

    def move(self, run: Path, place: int) -> QueueState:
        """Put a waiting run at another place; raises RunError as `QueueState.moved` does."""
        return self._change(lambda queue: queue.moved(run, place))

    def _change(self, change: Callable[[QueueState], QueueState]) -> QueueState:
        with self._locked():
            stored = self._stored()
            queue = change(stored.without_ended(self._is_alive))
            if queue != stored:
                draft = self._path.with_name(f".{self._path.name}.draft")
                waiting = [str(run) for run in queue.waiting]
                content = {"training": str(queue.training) if queue.training else None, "waiting": waiting}
                draft.write_text(json.dumps(content, indent=2), encoding="utf-8")
                draft.replace(self._path)
        return queue

    def _stored(self) -> QueueState:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            training, waiting = content["training"], content["waiting"]
            return QueueState(Path(training) if training else None, tuple(Path(run) for run in waiting))
        except FileNotFoundError:
            return QueueState()
        except (ValueError, KeyError, TypeError):
            # Only a power failure leaves half a file, and its runs have ended with it; a live one joins again.
            log.warning("The queue file %s cannot be read, so the queue starts empty; waiting runs join it again.", self._path)
            return QueueState()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def queues(folder: Path) -> list[DeviceQueue]:
    """Return the queues of all devices that were ever used, by device name."""
    return [DeviceQueue(folder, path.stem) for path in sorted(folder.glob("[!.]*.json"))]
