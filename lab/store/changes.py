"""Changes made to a run while it ran, and the step after which each was made, in a file of the run's folder.

A change is written before it takes effect, so that a run resumed from an earlier checkpoint applies it again at the same step.
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
    """A change of settings or pairs that holds from step `after` + 1 on.

    Attributes:
        after: Optimizer steps done when it was made.
        settings: New values of `learning_rate` and of parameters of the objective, by path ("beta", "base.beta").
        pairs_version: Version of the pair store trained on from that step, or None if it stays the same.
    """

    after: int
    settings: dict[str, Any] = field(default_factory=dict)
    pairs_version: int | None = None


def read_changes(folder: Path) -> list[Change]:
    """Return the changes of the run in a folder, in order. Raises RunError if their file is damaged."""
    try:
        return parse_changes(json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder / FILE_NAME} is damaged ({error}); restore it, or branch from a checkpoint of the run.") from None


def write_changes(folder: Path, changes: Sequence[Change]) -> None:
    """Replace the changes of the run in a folder. Raises OSError if that fails; the old ones then remain."""
    write_json(folder / FILE_NAME, plain_changes(changes))


def parse_changes(content: Any) -> list[Change]:
    """Convert JSON values to changes. Raises ValueError or TypeError if they are invalid."""
    changes = [Change(**item) for item in content]
    for change in changes:
        version = change.pairs_version
        if not isinstance(change.after, int) or not isinstance(change.settings, dict) or not isinstance(version, int | None):
            raise ValueError(f"{change} is not a valid change")
    return changes


def plain_changes(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Convert changes to JSON values."""
    return [asdict(change) for change in changes]


def checkpoint_before(folder: Path, after: int) -> Path | None:
    """Return the last checkpoint that was saved before the changes made after step `after`, or None."""
    return next((path for path in reversed(list_checkpoints(folder)) if is_before_change(path, after)), None)


def is_before_change(checkpoint: Path, after: int) -> bool | None:
    """Return whether a checkpoint was saved before the changes made after step `after`; None if it is damaged.

    A checkpoint of exactly that step may be from before or after: its metadata lists the changes it was saved with.
    """
    if step_of(checkpoint) != after:
        return step_of(checkpoint) < after
    try:
        return all(change.after != after for change in parse_changes(read_metadata(checkpoint).get("changes", [])))
    except (RunError, ValueError, TypeError):
        return None
