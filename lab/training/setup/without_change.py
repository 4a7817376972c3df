"""Taking a run back to before a change that was made in mid-run, so that it goes on as if the change had never been made.

What was trained since then goes: later checkpoints are deleted, apart from those that were asked for to keep, which are set aside
under another name. The store's rows of later steps are dropped when the run goes on, as at every resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.run.config import ConfigError
from lab.store import Change, RunError, durable, list_checkpoints, read_changes, read_manifest, write_changes
from lab.store.changes import is_before_change, parse_changes
from lab.store.folder import read_metadata

from .branch import START

SET_ASIDE = "left-out-"
"""Before the name of a checkpoint that was asked for to keep and that knows a change which was left out since."""


def changes_to_leave_out(folder: Path, after: int) -> list[Change]:
    """The changes of the run in a folder that were made when `after` steps were done. Nothing is changed yet.

    Raises ConfigError, naming the steps there are, where none was made then, and where the run that it branched from made it.
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
    there = f"its changes were made after step {steps}" if steps else "nothing was changed in it"
    raise ConfigError(f"The run {folder.name} was not changed after step {after}: {there}.")


def leave_out_changes(folder: Path, after: int) -> list[Change]:
    """Take the run in a folder back to its last checkpoint from before the changes made after step `after`, and forget these.

    The caller holds the run's lock. Checkpoints go first and the changes last, so that a run whose process is killed in between
    goes on from the earlier checkpoint and makes the changes again. Returns the changes that were left out.
    Raises ConfigError as `changes_to_leave_out` does, and RunError where the disk refuses.
    """
    left_out = changes_to_leave_out(folder, after)
    try:
        for checkpoint in reversed(list_checkpoints(folder)):
            if is_before_change(checkpoint, after) is False:
                _remove(checkpoint)
        write_changes(folder, [change for change in read_changes(folder) if change not in left_out])
    except OSError as error:
        raise RunError(
            f"The change after step {after} of {folder.name} could not be left out ({error.strerror or error}); make room or make "
            "the folder writable, and resume without it again."
        ) from error
    return left_out


def _remove(checkpoint: Path) -> None:
    try:
        keep = read_metadata(checkpoint).get("asked") == "keep"
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
    """The changes that a branch begins with: those of its parent's pair set up to the checkpoint."""
    if "branch" not in manifest or not (folder / START).exists():
        return []
    step = int(manifest["branch"]["step"])
    known = parse_changes(read_metadata(folder / START).get("changes", []))
    last = {change.pairs_version for change in known if change.after == step}
    return [
        change for change in read_changes(folder) if change.after < step or (change.after == step and change.pairs_version in last)
    ]
