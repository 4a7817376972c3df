"""What was changed in a run while it ran, and after which step: a small file in the run's folder.

A change is on disk before it takes effect, so a run that goes on from an earlier checkpoint meets it again at the same step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .durable import write_json
from .folder import RunError, list_checkpoints, read_metadata, step_of

FILE_NAME = "changes.json"


@dataclass(frozen=True)
class Change:
    """Holds from step `after` + 1 on.

    after: optimizer steps done when it was made.
    settings: new values of `learning_rate` and of the objective's parameters by their path ("beta", "base.beta").
    pairs_version: the version of the pair store that is trained on from there, or None if it stays.
    """

    after: int
    settings: dict[str, Any] = field(default_factory=dict)
    pairs_version: int | None = None


def read_changes(folder: Path) -> list[Change]:
    """The changes of the run in a folder, in their order. Raises RunError if their file is damaged."""
    try:
        return parse_changes(json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder / FILE_NAME} is damaged ({error}); restore it, or branch from a checkpoint of the run.") from None


def write_changes(folder: Path, changes: Sequence[Change]) -> None:
    """Replace the changes of the run in a folder; raises OSError where the disk refuses, and then the former ones stay."""
    write_json(folder / FILE_NAME, plain_changes(changes))


def parse_changes(content: Any) -> list[Change]:
    """Changes from plain JSON values. Raises ValueError or TypeError if they are none."""
    found = [Change(**item) for item in content]
    for change in found:
        version = change.pairs_version
        if not isinstance(change.after, int) or not isinstance(change.settings, dict) or not isinstance(version, int | None):
            raise ValueError(f"{change} is no change")
    return found


def plain_changes(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Changes as plain JSON values."""
    return [asdict(change) for change in changes]


def checkpoint_before(folder: Path, after: int) -> Path | None:
    """The last checkpoint of the run in a folder from before the changes made after step `after`, or None."""
    return next((path for path in reversed(list_checkpoints(folder)) if is_before_change(path, after)), None)


def is_before_change(checkpoint: Path, after: int) -> bool | None:
    """Whether a checkpoint is from before the changes made after step `after`; None where it is damaged.

    One of that very step may have been saved before or after the change: what it was saved with tells which.
    """
    if step_of(checkpoint) != after:
        return step_of(checkpoint) < after
    try:
        return all(change.after != after for change in parse_changes(read_metadata(checkpoint).get("changes", [])))
    except (RunError, ValueError, TypeError):
        return None
