"""The present model of a live run: the run is asked for a checkpoint, as anybody may ask it, and that is waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.store import ENDED
from lab.store.folder import step_of

from .errors import WhatIfError

if TYPE_CHECKING:
    from lab.run.handle import Run

    from .open_model import Progress

TIMEOUT = 120.0
"""Seconds after which a run that saves nothing is waited for no longer."""


def checkpoint_now(run: Run, *, timeout: float = TIMEOUT, progress: Progress | None = None) -> int:
    """The step of a checkpoint that stands for the run as it is now: a live run is asked to save one; of one that has ended it is
    its latest.

    Raises WhatIfError where a live run saves none within `timeout` seconds, refuses, or ends without any.
    """
    if run.state in ENDED:
        return _latest(run)
    events = run.reader.events.read()
    last = int(events["number"].max()) if len(events) else 0
    run.checkpoint(keep=False)
    began, heard = time.monotonic(), None
    while (waited := time.monotonic() - began) < timeout:
        if progress is not None:
            progress(f"waiting for the run to save a checkpoint (step {run.step:,})", waited / timeout)
        ended = run.state in ENDED
        asked = run.reader.events.read("request", "refused", after=last)
        for step, kind, detail in zip(asked["step"], asked["kind"], asked["detail"]):
            if detail.get("request") == "checkpoint":
                if kind == "refused":
                    raise WhatIfError(f"The run {run.name} could not save a checkpoint: {detail.get('message', '')}")
                heard = int(step)
        if ended:
            return _latest(run)
        saved = [step_of(path) for path in run.checkpoints()]
        if heard is not None and saved and saved[-1] >= heard:  # it may have saved at this very step before it was asked
            return saved[-1]
        time.sleep(0.05)
    raise WhatIfError(
        f"The run {run.name} saved no checkpoint within {timeout:g} seconds; it saves between two steps, once it trains. Try "
        "again, or take an earlier one."
    )


def _latest(run: Run) -> int:
    saved = run.checkpoints()
    if not saved:
        raise WhatIfError(f"The run {run.name} has ended without a checkpoint, so it left no model to examine.")
    return step_of(saved[-1])
