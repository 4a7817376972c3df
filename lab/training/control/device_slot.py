"""The device slot of a run: it waits in its device's queue, handles requests meanwhile, and frees the device at its end.

A paused run keeps its device, because its model and optimizer stay in the device's memory. Stopping frees it, and resuming later
continues exactly. A run that is paused while it waits leaves the queue and joins its end when it is resumed.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from lab.deferred import torch
from lab.run import DeviceQueue, QueueState, Request, take
from lab.run.requests import PAUSING
from lab.store import StoreReader, StoreWriter
from lab.store.folder import STOPPING
from lab.training.distributed import ALONE, Workers

from .request_loop import handle_requests

log = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between two checks of the queue."""


def device_name(device: str) -> str:
    """Return the name of the queue of a TrainConfig's device, the same in every process of the machine.

    Processes may count GPUs differently (CUDA_VISIBLE_DEVICES), so a GPU goes by the serial number the driver gives it.
    Raises ModelError for a device that is not here.
    """
    from lab.policy.loading import choose_device  # imports torch

    chosen = choose_device(device)
    if chosen.type == "cpu":
        return "cpu"
    if chosen.type == "cuda":
        index = torch.cuda.current_device() if chosen.index is None else chosen.index
        return f"gpu-{str(torch.cuda.get_device_properties(index).uuid)[:8]}"
    return f"{chosen.type}-{chosen.index or 0}"


class DeviceSlot:
    """The slot of one run on its device.

    Args:
        folder: Folder of the run.
        queues: Folder of the machine's queues.
        device: Device setting of the run (`TrainConfig.device`).
        workers: The processes that train together. The main one waits and broadcasts, so that none gives the others up.
    """

    def __init__(self, folder: Path, queues: Path, device: str, workers: Workers = ALONE) -> None:
        self.folder, self.queues, self.device, self.workers = folder.resolve(), queues, device, workers
        self.queue: DeviceQueue | None = None
        self._stage = ""

    def wait(self, store: StoreWriter) -> None:
        """Wait until the run has the device.

        Raises:
            Stopped: A stop was requested meanwhile.
            ModelError: There is no such device.
            OSError: The queue cannot be written.
        """
        ready = False
        try:
            self._wait(store)
            ready = True
        finally:
            self.workers.broadcast(ready)

    def wait_for_main(self) -> bool:
        """Wait in a process that is not the main one; return whether the run has the device."""
        while (ready := self.workers.broadcast(None)) is None:
            pass
        return bool(ready)

    def free(self) -> None:
        """Give the device to the next run. Does nothing before `wait`."""
        if self.queue is None:
            return
        try:
            self.queue.leave(self.folder)
        except OSError as error:  # other runs see from the lock on its folder that this run has ended
            log.warning("The queue of %s could not be written (%s).", self.queue.device, error.strerror)

    def _wait(self, store: StoreWriter) -> None:
        queue = self.queue = DeviceQueue(self.queues, device_name(self.device))
        queue.join(self.folder)
        while (line := queue.advance(self.folder)).training != self.folder:
            self._report_place(line, queue.device, store)
            self._sleep()
            self._poll(queue, store)
        store.status(stage="preparing")

    def _report_place(self, line: QueueState, device: str, store: StoreWriter) -> None:
        ahead = line.ahead(self.folder)
        if ahead is None:  # the device is free: the next call of `advance` gives it to this run
            return
        paused = ", which is paused" if ahead == line.training and _is_paused(ahead) else ""
        stage = f"waiting for {ahead.name} on {device}{paused}, place {line.place(self.folder)}"
        if stage == self._stage:
            return
        if not self._stage:
            log.warning(
                "%s is %s; `python -m lab queue` shows the order, and queue=False (--no-queue) would not wait.",
                self.folder.name,
                stage,
            )
        self._stage = stage
        store.status(stage=stage)

    def _poll(self, queue: DeviceQueue, store: StoreWriter) -> None:
        """Handle pause, resume and stop of a waiting run; other requests stay for the training loop."""

        def record(request: Request) -> None:
            store.event(StoreReader(self.folder).step, "request", request=request.kind, detail=request.detail)
            if request.kind == "stop":
                store.status(stage=STOPPING)

        def set_paused(paused: bool) -> None:
            queue.leave(self.folder) if paused else queue.join(self.folder)
            state = "paused" if paused else "queued"
            store.status(state=state, stage="out of the queue until it is resumed" if paused else None)
            store.event(StoreReader(self.folder).step, "state", state=state)
            self._stage = ""

        handle_requests(lambda: take(self.folder, PAUSING), record=record, set_paused=set_paused, wait=self._sleep)

    def _sleep(self) -> None:
        time.sleep(INTERVAL)
        self.workers.broadcast(None)


def _is_paused(run: Path) -> bool:
    try:
        return StoreReader(run).status().get("state") == "paused"
    except FileNotFoundError:  # the run was deleted
        return False
