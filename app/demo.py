"""The demo run that the launcher starts if there is no run yet."""

from __future__ import annotations

import lab
from lab import home
from lab.run.handle import Run


def start_demo(steps: int) -> Run | None:
    """Train SGDPO on the embedded world in a background thread; return None, without a run, if any run exists.

    The demo run is not queued: no other run waits for it.
    """
    if home.run_folders():
        return None
    # Few evaluations: no curve moves while answers are sampled.
    return lab.train("sgdpo", name="demo", run_dir=home.new_run_dir("demo"), steps=steps, eval_every=250, queue=False)
