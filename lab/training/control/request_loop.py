"""Pause, resume and stop, for a run that trains and for one that waits in its device's queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lab.run import Request
from lab.run.requests import PAUSING

from .stopped import Stopped


def handle_requests(
    receive: Callable[[], Iterable[Request]],
    *,
    record: Callable[[Request], None],
    set_paused: Callable[[bool], None],
    wait: Callable[[], None],
    other: Callable[[Request], None] | None = None,
) -> None:
    """Handle all pending requests; return when the run may continue.

    Requests received together with a stop are handled before it, so that none is lost.

    Args:
        receive: Returns the requests that have come since the last call.
        record: Called with every request.
        set_paused: Called with True when the run is paused and with False when it is resumed.
        wait: Called between two polls while the run is paused.
        other: Handles any request besides pause, resume and stop.

    Raises:
        Stopped: A stop was requested.
    """
    paused = False
    while True:
        stop = False
        for request in receive():
            record(request)
            if request.kind == "stop":
                stop = True
            elif request.kind in PAUSING:
                if paused != (request.kind == "pause"):
                    paused = not paused
                    set_paused(paused)
            elif other is not None:
                other(request)
        if stop:
            raise Stopped
        if not paused:
            return
        wait()
