"""Revert a change made in mid-run: the run returns to the last checkpoint before it and continues without it.

Later checkpoints are deleted, except those that were requested to be kept, which are renamed. The store's rows of later steps are
deleted when the run resumes, as at every resumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.run.checkpoints import START
from lab.run.config import ConfigError
from lab.store import Change, RunError, durable, list_checkpoints, read_changes, read_manifest, write_changes
from lab.store.changes import is_before_change, parse_changes
from lab.store.folder import read_metadata

SET_ASIDE = "left-out-"
"""Prefix given to the name of a kept checkpoint that contains a reverted change."""


def changes_made_after(folder: Path, after: int) -> list[Change]:
    """Return the changes in mid-run (settings, or a version of the pair set) that were made when exactly `after` steps were done.

    Args:
        folder: Folder of the run.
        after: Optimizer steps done when the changes were made.

    Raises:
        ConfigError: No change was made then (the message lists the steps of the others), or it was made in the run that this one
            branched from and cannot be left out here.
    """
    changes, manifest = read_changes(folder), read_manifest(folder)
    own = [change for change in changes if change not in _inherited(folder, manifest)]
    chosen = [change for change in own if change.after == after]
    if chosen:
        return chosen
    if any(change.after == after for change in changes):
        raise ConfigError(
            f"The change after step {after} was made in the run that {folder.name} branched from; branch from a checkpoint of that "
            "run instead, one from before the change."
        )
    steps = ", ".join(str(step) for step in sorted({change.after for change in own}))
    others = f"its changes were made after step {steps}" if steps else "it has no changes"
    raise ConfigError(f"The run {folder.name} was not changed after step {after}: {others}.")


def revert_changes(folder: Path, after: int) -> list[Change]:
    """Reset the run in `folder` to its last checkpoint before the changes made after step `after`, and delete these changes.

    Checkpoints are removed first and the changes last, so a process killed in between resumes from the earlier checkpoint and
    makes the changes again.

    Args:
        folder: Folder of the run, whose lock the caller holds.
        after: Step of the changes.

    Returns:
        The reverted changes.

    Raises:
        ConfigError: See `changes_made_after`.
        RunError: The disk refuses.
    """
    reverted = changes_made_after(folder, after)
    try:
        for checkpoint in reversed(list_checkpoints(folder)):
            if is_before_change(checkpoint, after) is False:
                _remove(checkpoint)
        write_changes(folder, [change for change in read_changes(folder) if change not in reverted])
    except OSError as error:
        raise RunError(
            f"The change after step {after} of {folder.name} could not be reverted ({error.strerror or error}); make room or make "
            "the folder writable, and resume without it again."
        ) from error
    return reverted


def _remove(checkpoint: Path) -> None:
    try:
        keep = read_metadata(checkpoint).get("purpose") == "keep"
    except RunError:  # damaged
        keep = False
    if not keep:
        durable.remove(checkpoint)
        return
    number, target = 1, checkpoint.with_name(f"{SET_ASIDE}{checkpoint.name}")
    while target.exists():
        number, target = number + 1, checkpoint.with_name(f"{SET_ASIDE}{checkpoint.name}-{number + 1}")
    durable.sync(checkpoint.rename(target).parent)


def _inherited(folder: Path, manifest: Mapping[str, Any]) -> list[Change]:
    """Return the changes that a branch begins with: those of its parent's pair set up to the checkpoint."""
    if "branch" not in manifest or not (folder / START).exists():
        return []
    step = int(manifest["branch"]["step"])
    known = parse_changes(read_metadata(folder / START).get("changes", []))
    last = {change.pairs_version for change in known if change.after == step}
    return [
        change for change in read_changes(folder) if change.after < step or (change.after == step and change.pairs_version in last)
    ]
