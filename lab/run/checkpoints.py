"""The checkpoints that a run keeps, by step."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from pathlib import Path
from typing import Literal, SupportsIndex

from lab.store import list_checkpoints
from lab.store.folder import read_metadata, step_of

from .config import ConfigError

START = "start"
"""Folder inside a branch's folder: a copy of the checkpoint that the branch began from."""
CheckpointPurpose = Literal["keep", "inspect"]
"""Purpose of a requested checkpoint: "keep" until the run is deleted, or "inspect" by `lab.whatif`, until the next such one."""


def checkpoints_by_step(folder: Path) -> dict[int, Path]:
    """Return the folder of each checkpoint that can be continued or branched from, in the order of their steps.

    The checkpoint that a branch began from counts as one of the branch's own.
    """
    kept = {step_of(path): path for path in list_checkpoints(folder)}
    if (folder / START).exists():
        kept.setdefault(int(read_metadata(folder / START)["step"]), folder / START)
    return dict(sorted(kept.items()))


def find_checkpoint(folder: Path, step: int | None = None) -> Path:
    """Return the checkpoint of a step; None for the latest.

    Raises:
        ConfigError: If the run has no checkpoint, or none of this step; the message names the nearest.
    """
    kept = checkpoints_by_step(folder)
    if not kept:
        raise ConfigError(f"The run {folder.name} has no checkpoint yet; save one with `run.checkpoint()`, or wait for the next.")
    if step is None:
        return list(kept.values())[-1]
    if step not in kept:
        raise ConfigError(not_kept(folder.name, step, kept))
    return kept[step]


def not_kept(name: str, step: object, kept: Iterable[int]) -> str:
    """Return an error message for a checkpoint that is not kept, which names the nearest one and all others."""
    steps = sorted(kept)
    listed = ", ".join(f"{each:,}" for each in steps)
    if not isinstance(step, SupportsIndex):
        return f"The run {name} has no checkpoint {step!r}; choose the step of one that is kept: {listed}."
    nearest = min(steps, key=lambda each: (abs(each - index(step)), each))
    return (
        f"The run {name} keeps no checkpoint of step {index(step):,}; the nearest is that of step {nearest:,} (kept: {listed}). "
        "keep_checkpoints sets how many of the latest are kept."
    )
