"""One run per device at a time, in an order people choose: a list of runs a device, kept in a small file.

There is no server. Every waiting run looks at the file for its turn, and whoever lists the queue or moves a run in it, from any
process, changes the same file. Who has died is known from the kernel's locks on the run folders (see `lock`), so a dead run
blocks nobody and is taken off the list by the next one that looks.
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

Alive = Callable[[Path], bool]


@dataclass(frozen=True)
class Line:
    """Who trains on a device, and who waits for it, next one first. Runs are absolute paths of their folders."""

    training: Path | None = None
    waiting: tuple[Path, ...] = ()

    def without(self, run: Path) -> Line:
        """The line after a run has left it."""
        return Line(
            None if self.training == run else self.training,
            tuple(other for other in self.waiting if other != run),
        )

    def joined(self, run: Path) -> Line:
        """The line with a run at its end."""
        rest = self.without(run)
        return replace(rest, waiting=(*rest.waiting, run))

    def moved(self, run: Path, place: int) -> Line:
        """The line with a waiting run at `place` (1 is next; beyond the end is the end). Raises RunError if it does not wait."""
        if run not in self.waiting:
            raise RunError(f"The run {run.name} is not waiting for a device, so it has no place to change.")
        if place < 1:
            raise RunError(f"There is no place {place} in a queue; 1 is the next to train.")
        rest = [other for other in self.waiting if other != run]
        return replace(self, waiting=(*rest[: place - 1], run, *rest[place - 1 :]))

    def living(self, alive: Alive) -> Line:
        """The line without its dead."""
        return Line(
            self.training if self.training is not None and alive(self.training) else None,
            tuple(run for run in self.waiting if alive(run)),
        )

    def advanced(self, run: Path) -> Line:
        """The line after `run` has looked for its turn: it trains if it is next and the device is free."""
        here = self if run == self.training or run in self.waiting else self.joined(run)
        if here.training is None and here.waiting[0] == run:
            return Line(run, here.waiting[1:])
        return here

    def place(self, run: Path) -> int | None:
        """0 for the run that trains, 1 for the next one, ...; None for a run that is not in the line."""
        if run == self.training:
            return 0
        return self.waiting.index(run) + 1 if run in self.waiting else None

    def ahead(self, run: Path) -> Path | None:
        """The run that a waiting one comes behind; None where there is none."""
        place = self.place(run)
        if not place:
            return None
        return self.waiting[place - 2] if place > 1 else self.training


class DeviceQueue:
    """The line of one device, in `folder/device.json`. Safe to use from any thread and process that shares the folder.

    alive: whether a run's trainer lives, by its folder. Raises OSError where the folder cannot be written.
    """

    def __init__(self, folder: Path, device: str, *, alive: Alive = is_held) -> None:
        self.device = device
        self._path, self._lock, self._alive = folder / f"{device}.json", folder / f"{device}.lock", alive

    def read(self) -> Line:
        """The living line at this moment. Changes nothing."""
        return self._stored().living(self._alive)

    def join(self, run: Path) -> Line:
        """Wait at the end of the line."""
        return self._change(lambda line: line.joined(run))

    def advance(self, run: Path) -> Line:
        """Look whether it is a waiting run's turn; if so the device is its own until it leaves or dies."""
        return self._change(lambda line: line.advanced(run))

    def leave(self, run: Path) -> Line:
        """Give the device, or the place, up."""
        return self._change(lambda line: line.without(run))

    def move(self, run: Path, place: int) -> Line:
        """Put a waiting run at another place. Raises RunError; see `Line.moved`."""
        return self._change(lambda line: line.moved(run, place))

    def _change(self, change: Callable[[Line], Line]) -> Line:
        with self._alone():
            stored = self._stored()
            line = change(stored.living(self._alive))
            if line != stored:
                draft = self._path.with_name(f".{self._path.name}.draft")
                content = {"training": str(line.training) if line.training else None, "waiting": [str(run) for run in line.waiting]}
                draft.write_text(json.dumps(content, indent=2), encoding="utf-8")
                draft.replace(self._path)
        return line

    def _stored(self) -> Line:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            training, waiting = content["training"], content["waiting"]
            return Line(Path(training) if training else None, tuple(Path(run) for run in waiting))
        except FileNotFoundError:
            return Line()
        except (ValueError, KeyError, TypeError):
            # Only a machine that lost its power leaves half a file, and its runs have died with it; others would join again.
            log.warning("The queue %s cannot be read and begins anew.", self._path)
            return Line()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def queues(folder: Path) -> list[DeviceQueue]:
    """The queues that were ever used in a folder, by device name."""
    return [DeviceQueue(folder, path.stem) for path in sorted(folder.glob("[!.]*.json"))]
