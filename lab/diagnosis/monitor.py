"""Background monitor: examines a run while it trains, records findings as events in the run store, and sends alerts.

It listens to the store's writer and works in a thread of its own. It only reads the store, so it cannot change the training; it
waits long enough between examinations to use a small share of the time; and its failure never ends a run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.store import EventKind, RunError, StoreReader, StoreWriter

from . import Diagnosis, Thresholds, diagnose, read_thresholds
from .alerts import Alert, Alerts

log = logging.getLogger(__name__)

EVENT: EventKind = "diagnosis"
"""Kind of the events that record findings. Their detail has `finding` (its kind), `message`, ..., and `over` when it has ended."""

INTERVAL = 4.0
"""Minimum seconds between two examinations."""

SHARE = 0.004
"""Share of the time that examinations may take."""

ABSENT = 3
"""Examinations in a row without a finding until it counts as over, so that one at its threshold does not flicker."""

OUTCOMES = {
    "finished": ("notice", "The run has finished."),
    "stopped": ("notice", "The run was stopped and saved a checkpoint."),
    "failed": ("error", "The run failed."),
}


class DiagnosticsMonitor:
    """Examines a run while it trains. Add it to `StoreWriter.listeners`.

    Args:
        folder: Folder of the run.
        writer: Writer of its store, which records the findings.
        alerts: Where findings and the outcome of the run are sent, or None.
        interval: Minimum seconds between two examinations.
    """

    def __init__(self, folder: Path, writer: StoreWriter, alerts: Alerts | None = None, *, interval: float = INTERVAL) -> None:
        self._folder, self._writer, self._alerts, self._interval = folder, writer, alerts, interval
        self._reader: StoreReader | None = None
        self._open: dict[str, dict[str, Any]] = {}
        self._absent: dict[str, int] = {}
        self._step = self._examined = -1
        self._warned = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"diagnostics-{folder.name}", daemon=True)
        self._thread.start()

    # Called by the writer of the store, in the training thread.

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Note that a step was recorded; returns at once."""
        self._step = step

    def close(self) -> None:
        """Examine the run a last time after its end and send the last alerts."""
        self._ending.set()
        self._thread.join()
        try:
            self._writer.flush()
            if self._step != self._examined:
                self._examine()
            self._send_outcome()
        except Exception as error:  # the run has ended, and its outcome does not depend on the monitor
            self._warn_once(error)
        if self._alerts is not None:
            self._alerts.close()

    # The background thread.

    def _work(self) -> None:
        pause = self._interval
        while not self._ending.wait(pause):
            if self._step == self._examined:  # no new step
                continue
            began = time.thread_time()
            try:
                self._examine()
            except Exception as error:  # training continues whatever happens here
                self._warn_once(error)
            pause = max(self._interval, (time.thread_time() - began) / SHARE)

    def _examine(self) -> None:
        step = self._step
        if self._reader is None:
            self._reader = StoreReader(self._folder)
            self._open = open_findings(self._reader, step)
        findings = {one.kind: one for one in diagnose(self._reader, step=step, thresholds=self._thresholds())}
        self._examined = step
        for kind, one in findings.items():
            self._absent.pop(kind, None)
            if kind not in self._open or worse(one.severity, self._open[kind]["severity"]):
                self._begin(one)
        for kind in [kind for kind in self._open if kind not in findings]:
            self._absent[kind] = self._absent.get(kind, 0) + 1
            if self._absent[kind] >= ABSENT:
                self._end(kind, step)

    def _thresholds(self) -> Thresholds:
        try:
            return read_thresholds(self._folder)
        except RunError as error:
            self._warn_once(error)
            return Thresholds()

    def _begin(self, one: Diagnosis) -> None:
        detail = {"severity": one.severity, "message": one.message, "numbers": dict(one.numbers), "pairs": list(one.pairs)}
        self._open[one.kind] = detail
        more = {"since": one.since, "change": one.change, "thresholds": dict(one.thresholds)}
        self._writer.event(one.step, EVENT, finding=one.kind, **more, **detail)
        if self._alerts is not None:
            self._alerts.send(Alert(self._folder.name, one.step, one.kind, one.severity, one.message, one.numbers, one.pairs))

    def _end(self, kind: str, step: int) -> None:
        was = self._open.pop(kind)
        del self._absent[kind]
        self._writer.event(step, EVENT, finding=kind, over=True, severity="notice", message=was["message"])

    def _send_outcome(self) -> None:
        if self._alerts is None:
            return
        status = (self._reader or StoreReader(self._folder)).status()
        state = str(status.get("state", ""))
        if state in OUTCOMES:
            severity, message = OUTCOMES[state]
            reason = f" {status['error']}" if status.get("error") else ""
            self._alerts.send(Alert(self._folder.name, int(status.get("step", 0)), state, severity, message + reason))

    def _warn_once(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("The diagnosis of %s failed (%s: %s); training continues.", self._folder.name, type(error).__name__, error)


def open_findings(reader: StoreReader, step: int) -> dict[str, dict[str, Any]]:
    """Return the findings recorded up to a step and not over, by kind, so that a resumed run does not record them again."""
    findings: dict[str, dict[str, Any]] = {}
    events = reader.events.read(EVENT)
    for at, detail in zip(events["step"], events["detail"]):
        if at <= step:
            if detail.get("over"):
                findings.pop(detail["finding"], None)
            else:
                findings[detail["finding"]] = detail
    return findings


ORDER = ("notice", "warning", "error")


def worse(one: str, other: str) -> bool:
    """Return whether a severity is higher than another."""
    return ORDER.index(one) > ORDER.index(other)
