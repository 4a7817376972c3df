"""Records of finished runs: their evaluations, so that results are read without opening the database of every run."""

from __future__ import annotations

import json
import shutil
from typing import Any

from lab.run.handle import Run
from lab.store.folder import CHECKPOINTS

HELD_OUT = "eval/"
"""Beginning of the names of an evaluation's scalars."""


def record_of(run: Run, wall: float | None) -> dict[str, Any]:
    """Return what an experiment keeps of a finished run, as JSON values.

    Args:
        run: The run.
        wall: Seconds from starting its process to its end; None if it was interrupted.

    Returns:
        `run` (name of its folder), `wall`, `seconds` (trained), `steps`, `versions` of the libraries, `changes` (settings and pairs
        changed during the run: such a run is no longer what the experiment declared), and `evaluations`: for each the `step`, its
        `scalars` and, where answers were sampled, the values `by_prompt`.
    """
    events = run.events("evaluation")
    evaluations = [
        {
            "step": int(step),
            "scalars": {name: value for name, value in detail.items() if name.startswith(HELD_OUT)},
            "by_prompt": detail.get("by_prompt", {}),
        }
        for step, detail in zip(events["step"], events["detail"])
    ]
    return {
        "run": run.dir.name,
        "wall": wall,
        "seconds": run.status.get("seconds"),
        "steps": run.step,
        "versions": run.manifest.get("versions", {}),
        "changes": [f"after step {change.after}" for change in run.changes()],
        "evaluations": json.loads(json.dumps(evaluations)),
    }


def drop_checkpoints(run: Run) -> None:
    """Delete the checkpoints of a finished run, which are most of what it takes on the disk."""
    shutil.rmtree(run.dir / CHECKPOINTS, ignore_errors=True)
