"""The demo run that the launcher starts where there is no run yet."""

from __future__ import annotations

import lab
from lab import home
from lab.run.handle import Run


def start_demo(steps: int) -> Run | None:
    """Train SGDPO on the embedded world in a background thread. Does nothing and returns None where any run exists.

    The demo stands outside of the queue: no other run has to wait for it.
    """
    if home.run_folders():
        return None
    # Few evaluations with sampled answers: while answers are sampled, no curve moves.
    return lab.train("sgdpo", name="demo", run_dir=home.new_run_dir("demo"), steps=steps, eval_every=250, queue=False)
