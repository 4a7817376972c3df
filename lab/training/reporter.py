"""Progress, state and warnings of a run, as they are written to its store."""

from __future__ import annotations

import logging
from typing import Any

from lab.store import StoreWriter
from lab.store.folder import STOPPING

log = logging.getLogger(__name__)


class RunReporter:
    """Writes what a training loop is doing.

    Attributes:
        store: The run's store.
        step: Optimizer steps done; events are recorded at this step.
    """

    def __init__(self, store: StoreWriter) -> None:
        self.store = store
        self.step = 0

    def stage(self, stage: str, share: float | None = None, remaining: float | None = None) -> None:
        """Set the current stage, its share done (0 to 1) and the seconds it has left."""
        self.store.status(stage=stage, stage_share=share, stage_remaining=remaining)

    def state(self, state: str) -> None:
        """Set the run's state ("running", "paused") and record the change."""
        self.store.status(state=state)
        self.store.event(self.step, "state", state=state)

    def stopping(self) -> None:
        """Set the stage to stopping and wait up to a second until it is written."""
        self.stage(STOPPING)
        self.store.flush(1.0)

    def warn(self, message: str, **detail: Any) -> None:
        """Log a warning and record it. `diagnosed=True` marks one that the diagnosis reports too."""
        log.warning("%s", message)
        self.store.event(self.step, "warning", message=message, **detail)
