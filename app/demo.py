"""The demo run that the launcher starts if there is no run yet."""

from __future__ import annotations

import lab
from lab import home
from lab.api import Executor
from lab.run.handle import Run


def start_demo(steps: int, *, executor: Executor = "thread") -> Run | None:
    """Train SGDPO on the embedded world in the background; return None, without a run, if any run exists.

    The demo run is not queued: no other run waits for it.
    """
    if home.run_folders():
        return None
    # Few evaluations: no curve moves while answers are sampled.
    return lab.train(
        "sgdpo", name="demo", run_dir=home.new_run_dir("demo"), steps=steps, eval_every=250, queue=False, executor=executor
    )
