"""Records of finished runs: their evaluations, so that results are read without opening the database of every run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.run.handle import Run
from lab.store.folder import CHECKPOINTS

HELD_OUT = "eval/"
"""Beginning of the names of an evaluation's scalars."""
TRAINING = ("weight_chosen", "weight_rejected", "grad_norm")
"""Scalars of training steps that a record keeps as means between evaluations."""
MARGIN_STD = "eval/rewards/margins_std"
"""Standard deviation of the reward margin over the held-out pairs of an evaluation."""


def record_of(run: Run, wall: float | None) -> dict[str, Any]:
    """Return what an experiment keeps of a finished run, as JSON values.

    Args:
        run: The run.
        wall: Seconds from starting its process to its end; None if it was interrupted.

    Returns:
        `run` (name of its folder), `wall`, `seconds` (trained), `steps`, `versions` of the libraries, `changes` (settings and pairs
        changed during the run: such a run is no longer what the experiment declared), and `evaluations`: for each the `step`, its
        `scalars`, where answers were sampled the values `by_prompt`, and as `more` the standard deviation of the held-out margin
        and the means of TRAINING over the steps since the evaluation before. Those of the first step belong to the evaluation
        before training, since its policy is the same. `sizes` holds what the run was trained on, from the report before its first
        step: bytes of the weights, pairs, and median tokens of prompt, chosen and rejected answer.
    """
    events = run.events("evaluation")
    steps = [int(step) for step in events["step"]]
    more = _more(run, steps)
    evaluations = [
        {
            "step": step,
            "scalars": {name: value for name, value in detail.items() if name.startswith(HELD_OUT)},
            "by_prompt": detail.get("by_prompt", {}),
            "more": own,
        }
        for step, detail, own in zip(steps, events["detail"], more)
    ]
    return {
        "run": run.dir.name,
        "wall": wall,
        "seconds": run.status.get("seconds"),
        "steps": run.step,
        "versions": run.manifest.get("versions", {}),
        "sizes": _sizes(run),
        "changes": [f"after step {change.after}" for change in run.changes()],
        "evaluations": json.loads(json.dumps(evaluations)),
    }


def _sizes(run: Run) -> dict[str, int]:
    report = run.preflight()
    if report is None:
        return {}
    tokens = {f"tokens_{name}": lengths.median for name, lengths in report.lengths.items()}
    return {"weights": report.memory.weights, "pairs": report.pairs, "held_out": report.held_out, **tokens}


def _more(run: Run, steps: Sequence[int]) -> list[dict[str, float]]:
    """Return for each evaluation the numbers that it did not record itself; see `record_of`."""
    known = [name for name in TRAINING if name in run.reader.scalars.names()]
    trained = run.scalars(known)
    held_out = run.reader.held_out.read()
    values: list[dict[str, float]] = []
    for before, step in zip([-1, *steps], steps):
        first, last = (1, 1) if step == 0 else (max(before, 0) + 1, step)
        own = {f"training/{name}": mean for name, mean in trained.loc[first:last].mean().items() if np.isfinite(mean)}
        pairs = held_out[held_out["step"] == step]
        if len(pairs) > 1:
            own[MARGIN_STD] = float((pairs["reward_chosen"] - pairs["reward_rejected"]).std(ddof=1))
        values.append(own)
    return values


def drop_checkpoints(run: Run) -> None:
    """Delete the checkpoints of a finished run, which are most of what it takes on the disk."""
    shutil.rmtree(run.dir / CHECKPOINTS, ignore_errors=True)
