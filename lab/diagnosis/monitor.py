"""The watchman: looks at a run while it trains, writes what it finds into the run's store, and alerts whoever asked for it.

A listener of the store's writer with a thread of its own. It reads the store and nothing else, so it moves no number of the run;
a look waits until its cost is a small share of the time that has passed, and a watchman that fails never ends a run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.store import RunError, StoreReader, StoreWriter

from . import Diagnosis, Thresholds, diagnose, read_thresholds
from .alerts import Alert, Alerts

log = logging.getLogger(__name__)

EVENT = "diagnosis"
"""Kind of the events that findings are recorded as; their detail has `finding` (its kind), `message`, ... and `over` at its end."""

INTERVAL = 4.0
"""Seconds between two looks, at least."""

SHARE = 0.004
"""Share of the time that looks may take."""

ABSENT = 3
"""Looks in a row without a finding until it counts as over, so that one at the edge of its threshold does not come and go."""

OUTCOMES = {
    "finished": ("notice", "The run has finished."),
    "stopped": ("notice", "The run was stopped; a checkpoint is saved."),
    "failed": ("error", "The run failed."),
}


class DiagnosticsMonitor:
    """Watches the run whose store `writer` writes in `folder`; see `StoreWriter.listeners`."""

    def __init__(self, folder: Path, writer: StoreWriter, alerts: Alerts | None = None, *, interval: float = INTERVAL) -> None:
        self._folder, self._writer, self._alerts, self._interval = folder, writer, alerts, interval
        self._reader: StoreReader | None = None
        self._open: dict[str, dict[str, Any]] = {}
        self._absent: dict[str, int] = {}
        self._step = self._looked_at = -1
        self._complained = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"watchman-{folder.name}", daemon=True)
        self._thread.start()

    # What the store's writer calls, in the loop's thread.

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A step has been recorded; never waits."""
        self._step = step

    def close(self) -> None:
        """The run has ended: a last look, and the last alerts."""
        self._ending.set()
        self._thread.join()
        try:
            self._writer.flush()
            if self._step != self._looked_at:
                self._look()
            self._tell_outcome()
        except Exception as error:
            self._complain(error)
        if self._alerts is not None:
            self._alerts.close()

    # The thread.

    def _work(self) -> None:
        pause = self._interval
        while not self._ending.wait(pause):
            if self._step == self._looked_at:  # no step since: nothing new to see, and none before the first
                continue
            began = time.thread_time()
            try:
                self._look()
            except Exception as error:  # whatever it meets, training goes on
                self._complain(error)
            pause = max(self._interval, (time.thread_time() - began) / SHARE)

    def _look(self) -> None:
        step = self._step
        if self._reader is None:
            self._reader = StoreReader(self._folder)
            self._open = still_open(self._reader, step)
        found = {one.kind: one for one in diagnose(self._reader, step=step, thresholds=self._thresholds())}
        self._looked_at = step
        for kind, one in found.items():
            self._absent.pop(kind, None)
            if kind not in self._open or worse(one.severity, self._open[kind]["severity"]):
                self._begin(one)
        for kind in [kind for kind in self._open if kind not in found]:
            self._absent[kind] = self._absent.get(kind, 0) + 1
            if self._absent[kind] >= ABSENT:
                self._end(kind, step)

    def _thresholds(self) -> Thresholds:
        try:
            return read_thresholds(self._folder)
        except RunError as error:
            self._complain(error)
            return Thresholds()

    def _begin(self, one: Diagnosis) -> None:
        detail = {"severity": one.severity, "message": one.message, "numbers": dict(one.numbers), "pairs": list(one.pairs)}
        self._open[one.kind] = detail
        more = {"since": one.since, "change": one.change, "thresholds": dict(one.thresholds)}
        self._writer.event(one.step, EVENT, finding=one.kind, **more, **detail)
        if self._alerts is not None:
            self._alerts.tell(Alert(self._folder.name, one.step, one.kind, one.severity, one.message, one.numbers, one.pairs))

    def _end(self, kind: str, step: int) -> None:
        was = self._open.pop(kind)
        del self._absent[kind]
        self._writer.event(step, EVENT, finding=kind, over=True, severity="notice", message=was["message"])

    def _tell_outcome(self) -> None:
        if self._alerts is None:
            return
        status = (self._reader or StoreReader(self._folder)).status()
        state = str(status.get("state", ""))
        if state in OUTCOMES:
            severity, message = OUTCOMES[state]
            reason = f" {status['error']}" if status.get("error") else ""
            self._alerts.tell(Alert(self._folder.name, int(status.get("step", 0)), state, severity, message + reason))

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("The diagnosis of %s failed (%s: %s); the run goes on.", self._folder.name, type(error).__name__, error)


def still_open(reader: StoreReader, step: int) -> dict[str, dict[str, Any]]:
    """The findings that were recorded up to a step and are not over, by kind: a run that goes on does not repeat them."""
    found: dict[str, dict[str, Any]] = {}
    events = reader.events.read(EVENT)
    for at, detail in zip(events["step"], events["detail"]):
        if at <= step:
            if detail.get("over"):
                found.pop(detail["finding"], None)
            else:
                found[detail["finding"]] = detail
    return found


ORDER = ("notice", "warning", "error")


def worse(one: str, other: str) -> bool:
    """Whether a severity is graver than another."""
    return ORDER.index(one) > ORDER.index(other)
