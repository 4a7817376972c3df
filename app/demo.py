"""The demo run that the launcher starts, and the end of the ones before it.

Every start of the launcher makes a demo run, so old ones are cleared away: of the demo runs that have ended, the latest
`KEPT` stay. Only folders that carry the launcher's own mark are ever deleted; who wants to keep a demo run deletes the mark.
"""

from __future__ import annotations

from collections.abc import Sequence

import lab
from lab import home
from lab.monitor import ENDED
from lab.run import Run

KEPT = 3
"""Ended demo runs that stay."""
MARK = "demo.txt"
WORDS = "The launcher made this demo run, and deletes it when newer ones have taken its place. To keep the run, delete this file.\n"


def start_demo(steps: int) -> Run | None:
    """Train SGDPO on the embedded world in a background thread. Does nothing and returns None if a run is live already.

    The demo stands outside of the queue: nobody's own run has to wait for it.
    """
    runs = lab.runs()
    if any(run.state not in ENDED for run in runs):
        return None
    clear_demos(runs)
    folder = home.new_run_dir("demo")
    folder.mkdir(parents=True)
    (folder / MARK).write_text(WORDS, encoding="utf-8")
    # Few looks at sampled answers: while they are written, no curve moves.
    return lab.train("sgdpo", name="demo", run_dir=folder, steps=steps, eval_every=250, queue=False)


def clear_demos(runs: Sequence[Run]) -> None:
    """Delete the marked runs among `runs` (newest first) that have ended, apart from the latest `KEPT`."""
    own = [run for run in runs if (run.dir / MARK).is_file() and not run.dir.is_symlink() and run.state in ENDED]
    for run in own[KEPT:]:
        run.delete()
