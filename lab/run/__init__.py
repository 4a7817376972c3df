"""A run from outside its training loop: the handle, its settings, the lock of its folder, control requests and the device queue."""

from .device_queue import DeviceQueue, Line, queues
from .handle import Run, find_run, open_run, runs
from .lock import RunLock, is_held
from .requests import Request, pending, send, take

__all__ = [
    "DeviceQueue",
    "Line",
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
