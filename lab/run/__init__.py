"""Runs from outside their training loop: handle, settings, lock, control requests and device queues."""

from .device_queue import DeviceQueue, QueueState, queues
from .handle import Run, open_run, runs
from .lock import RunLock, is_held
from .lookup import find_run
from .requests import Request, pending, send, take

__all__ = [
    "DeviceQueue",
    "QueueState",
    "Request",
    "Run",
    "RunLock",
    "find_run",
    "is_held",
    "open_run",
    "pending",
    "queues",
    "runs",
    "send",
    "take",
]
