"""A run's turn on its device: it waits in the device's queue, obeys requests meanwhile, and gives the device up at its end.

A paused run keeps its device: its model and optimizer stay in the device's memory. Stopping gives the device up, and resuming
later goes on exactly. A run that is paused while it still waits leaves the queue and joins its end again when it goes on.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from lab.policy.loading import choose_device
from lab.run import DeviceQueue, QueueState, take
from lab.store import StoreReader, StoreWriter
from lab.store.folder import STOPPING
from lab.training.distributed import ALONE, Workers

from .stopping import Stopped

log = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between two looks for one's turn."""


def device_name(device: str) -> str:
    """The name of the queue for a TrainConfig's device, the same in every process of the machine.

    Processes may count GPUs differently (CUDA_VISIBLE_DEVICES), so a GPU goes by the serial number the driver gives it.
    Raises ModelError for a device that is not here.
    """
    chosen = choose_device(device)
    if chosen.type == "cpu":
        return "cpu"
    if chosen.type == "cuda":
        index = torch.cuda.current_device() if chosen.index is None else chosen.index
        return f"gpu-{str(torch.cuda.get_device_properties(index).uuid)[:8]}"
    return f"{chosen.type}-{chosen.index or 0}"


class DeviceSlot:
    """The turn of the run in `folder` on its device: `wait()` returns when it has come, `leave()` gives the device up.

    queues: the folder of the machine's queues.   device: TrainConfig's.
    workers: the processes that train together. The first waits and keeps telling the others, so that none gives the others up.
    """

    def __init__(self, folder: Path, queues: Path, device: str, workers: Workers = ALONE) -> None:
        self.folder, self.queues, self.device, self.workers = folder.resolve(), queues, device, workers
        self.queue: DeviceQueue | None = None
        self._said = ""

    def wait(self, store: StoreWriter) -> None:
        """Wait for the device. Raises Stopped when somebody asks the run to stop meanwhile, ModelError if there is no such device,
        OSError if the queue cannot be written."""
        come = False
        try:
            self._wait(store)
            come = True
        finally:
            self.workers.broadcast(come)

    def come_for_the_first(self) -> bool:
        """In the processes that do not write: wait with the first one; True once the device is theirs, False if it will not be."""
        while (come := self.workers.broadcast(None)) is None:
            pass
        return bool(come)

    def _wait(self, store: StoreWriter) -> None:
        queue = self.queue = DeviceQueue(self.queues, device_name(self.device))
        queue.join(self.folder)
        while (line := queue.advance(self.folder)).training != self.folder:
            self._say(line, queue.device, store)
            self._pass_time()
            self._listen(queue, store)
        store.status(stage="preparing")

    def leave(self) -> None:
        """Another run may have the device from now on. Does nothing before `wait`."""
        if self.queue is None:
            return
        try:
            self.queue.leave(self.folder)
        except OSError as error:  # the others see from the lock on its folder that this run is over
            log.warning("The queue of %s could not be written (%s).", self.queue.device, error.strerror)

    def _say(self, line: QueueState, device: str, store: StoreWriter) -> None:
        ahead = line.ahead(self.folder)
        if ahead is None:  # the device is free: this run has it at the next look
            return
        paused = ", which is paused" if ahead == line.training and _is_paused(ahead) else ""
        message = f"waiting for {ahead.name} on {device}{paused}, place {line.place(self.folder)}"
        if message == self._said:
            return
        if not self._said:
            log.warning(
                "%s is %s; `python -m lab queue` shows the order, and queue=False (--no-queue) would not wait.",
                self.folder.name,
                message,
            )
        self._said = message
        store.status(stage=message)

    def _listen(self, queue: DeviceQueue, store: StoreWriter) -> None:
        """Obey what concerns a waiting run; everything else stays for the loop."""
        paused = False
        while True:
            for request in take(self.folder, ("stop", "pause", "resume")):
                step = StoreReader(self.folder).step
                store.event(step, "request", request=request.kind, asked=request.detail)
                if request.kind == "stop":
                    store.status(stage=STOPPING)
                    raise Stopped
                if paused != (request.kind == "pause"):
                    paused = not paused
                    queue.leave(self.folder) if paused else queue.join(self.folder)
                    state = "paused" if paused else "queued"
                    store.status(state=state, stage="out of the queue until it is resumed" if paused else None)
                    store.event(step, "state", state=state)
                    self._said = ""
            if not paused:
                return
            self._pass_time()

    def _pass_time(self) -> None:
        time.sleep(INTERVAL)
        self.workers.broadcast(None)


def _is_paused(run: Path) -> bool:
    try:
        return StoreReader(run).status().get("state") == "paused"
    except FileNotFoundError:  # deleted since
        return False
