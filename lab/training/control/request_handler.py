"""Control requests of a run that trains: pause, resume, stop, checkpoint, new settings and edits of its pairs."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from lab.run import Request, take
from lab.run.checkpoints import CheckpointPurpose
from lab.run.config import ConfigError
from lab.run.requests import PAUSING
from lab.store.folder import STOPPING
from lab.training.distributed import ALONE, Workers
from lab.training.reporter import RunReporter
from lab.training.run_context import RunContext

from .request_loop import handle_requests
from .run_changes import RunChanges, require_settings, require_version

log = logging.getLogger(__name__)

Save = Callable[[CheckpointPurpose], None]

REFUSALS = (ValueError, OSError, RuntimeError, sqlite3.Error)
"""Errors because of which a request is refused, and the run continues."""

INTERVAL = 0.05
"""Seconds between two polls while a run is paused."""


class RequestHandler:
    """Receives and handles the requests to one run at its safe points.

    Attributes:
        paused_seconds: Time that the run has been paused.
    """

    def __init__(self, run_dir: Path, reporter: RunReporter, changes: RunChanges, workers: Workers = ALONE) -> None:
        self.run_dir, self.reporter, self.changes, self.workers = run_dir, reporter, changes, workers
        self.paused_seconds = 0.0

    def poll(self) -> None:
        """Handle pause, resume and stop inside a step or before the first; other requests wait for `poll_between_steps`.

        Raises Stopped when the run is to stop.
        """
        handle_requests(lambda: self._receive(PAUSING), record=self._record, set_paused=self._set_paused, wait=self._wait)

    def poll_between_steps(self, context: RunContext, save: Save) -> None:
        """Apply changes that are due, handle all requests, and take edits that the run follows, between two steps.

        Args:
            context: The run's context, in which changes take effect.
            save: Writes a checkpoint for a purpose.

        Raises:
            Stopped: The run is to stop.
        """
        self.changes.replay(context, self.reporter.step)
        handle_requests(
            self._receive,
            record=self._record,
            set_paused=self._set_paused,
            wait=self._wait,
            other=lambda request: self._handle(request, context, save),
        )
        try:
            self.changes.follow(context, self.reporter.step)
        except REFUSALS as error:
            self._refuse("edits", error)

    def finish(self, context: RunContext | None, save: Save) -> None:
        """Handle what was requested together with a stop that interrupted a step.

        Args:
            context: The run's context. None, or several processes: only pause, resume and stop are taken, and other requests are
                handled when the run is resumed.
            save: Writes a checkpoint for a purpose.
        """
        if not self.workers.is_main:
            return
        alone = self.workers.world_size == 1  # several processes would have to handle a request together
        if context is not None and alone:
            self.changes.replay(context, self.reporter.step)
        for request in take(self.run_dir, None if context is not None and alone else PAUSING):
            self._record(request)
            if context is not None and request.kind not in PAUSING:
                self._handle(request, context, save)

    def _receive(self, kinds: tuple[str, ...] | None = None) -> list[Request]:
        requests: list[Request] = self.workers.broadcast(take(self.run_dir, kinds) if self.workers.is_main else None)
        return requests

    def _record(self, request: Request) -> None:
        detail = {"detail": request.detail} if request.detail else {}
        self.reporter.store.event(self.reporter.step, "request", request=request.kind, **detail)
        if request.kind == "stop":
            self.reporter.stage(STOPPING)

    def _set_paused(self, paused: bool) -> None:
        self.reporter.state("paused" if paused else "running")

    def _wait(self) -> None:
        began = time.perf_counter()
        time.sleep(INTERVAL)
        self.paused_seconds += time.perf_counter() - began

    def _handle(self, request: Request, context: RunContext, save: Save) -> None:
        """Handle one request; one that cannot be fulfilled is refused with a message, and the run continues unchanged."""
        step = self.reporter.step
        try:
            if request.kind == "checkpoint":
                save("keep" if request.detail.get("keep", True) else "inspect")
            elif request.kind == "set":
                self.changes.set(context, require_settings(request.detail.get("settings")), step, request.id)
            elif request.kind == "edits":
                self.changes.take_version(context, require_version(request.detail.get("version")), step)
            else:
                raise ConfigError(f"No run understands the request {request.kind!r} ({request.detail}).")
        except REFUSALS as error:
            self._refuse(request.kind, error, id=request.id)

    def _refuse(self, kind: str, error: Exception, **detail: str) -> None:
        """Record that a request, or edits that the run follows, cannot be fulfilled."""
        message = " ".join(str(error).split())
        self.reporter.store.event(self.reporter.step, "refused", request=kind, message=message, **detail)
        log.warning("A request was refused: %s", message)
