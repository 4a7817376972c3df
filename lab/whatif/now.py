"""The present model of a live run: request a checkpoint and wait for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.progress import StageProgress
from lab.store import ENDED
from lab.store.folder import step_of

from .whatif_error import WhatIfError

if TYPE_CHECKING:
    from lab.run.handle import Run


TIMEOUT = 120.0
"""Seconds to wait for the checkpoint."""


def checkpoint_now(run: Run, *, timeout: float = TIMEOUT, progress: StageProgress | None = None) -> int:
    """Return the step of a checkpoint of the run's present model; that of an ended run is its latest.

    A live run is sent a checkpoint request, which is waited for.

    Raises:
        WhatIfError: If a live run saves none within `timeout` seconds, refuses, or ends without one.
    """
    if run.state in ENDED:
        return _latest(run)
    events = run.reader.events.read()
    last = int(events["number"].max()) if len(events) else 0
    run.checkpoint(keep=False)
    began, requested_at = time.monotonic(), None
    while (waited := time.monotonic() - began) < timeout:
        if progress is not None:
            progress(f"waiting for the run to save a checkpoint (step {run.step:,})", waited / timeout)
        ended = run.state in ENDED
        answers = run.reader.events.read("request", "refused", after=last)
        for step, kind, detail in zip(answers["step"], answers["kind"], answers["detail"]):
            if detail.get("request") == "checkpoint":
                if kind == "refused":
                    raise WhatIfError(f"The run {run.name} could not save a checkpoint: {detail.get('message', '')}")
                requested_at = int(step)
        if ended:
            return _latest(run)
        saved = [step_of(path) for path in run.checkpoints()]
        if requested_at is not None and saved and saved[-1] >= requested_at:  # it may have saved at this step before
            return saved[-1]
        time.sleep(0.05)
    raise WhatIfError(
        f"The run {run.name} saved no checkpoint within {timeout:g} seconds; it saves between two steps, once it trains. Try "
        "again, or examine an earlier checkpoint."
    )


def _latest(run: Run) -> int:
    saved = run.checkpoints()
    if not saved:
        raise WhatIfError(f"The run {run.name} has ended without a checkpoint, so it left no model to examine.")
    return step_of(saved[-1])
