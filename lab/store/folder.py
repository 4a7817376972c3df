"""A run's folder: what lies in it, and how one knows it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
PROCESS_LOG = "process.log"
"""What a training process of its own wrote to its standard output and error."""
BEGINS = "--- "
"""How a line of that log begins where another process has taken over."""
FACTS = "trainer.json"
"""In a checkpoint: what it says of itself."""
AUTO = ("eval/oracle_reward", "eval/reward", "eval/rewards/accuracies")
"""Scalars that tell a good checkpoint from a bad one, the most telling first."""
STOPPING = "stopping"
"""The stage of a run from a stop request until its last checkpoint is written."""
ENDED = ("finished", "stopped", "failed", "dead")
"""States in which nothing trains any more."""


class RunError(LabError):
    """A run folder that cannot be opened or used, in one sentence."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """What was written down when the run in a folder was made. Raises RunError where there is none."""
    try:
        return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{folder / RUN_FILE} is damaged ({error}); restore the file, or delete the folder.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} holds no run ({RUN_FILE} is missing); `python -m lab runs` lists the ones there are.") from None


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of the run in a folder, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("step-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Optimizer steps done at a checkpoint, from its folder's name."""
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def read_metadata(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: step, settings, pairs_version, changes, evaluation. Raises RunError if it is damaged."""
    try:
        metadata = json.loads((checkpoint / FACTS).read_text(encoding="utf-8"))
        if not isinstance(metadata, dict):
            raise ValueError("it holds no facts")
    except (OSError, ValueError) as error:
        raise RunError(f"{checkpoint / FACTS} cannot be read ({error}); use an earlier checkpoint.") from None
    return metadata


def best_checkpoint(folder: Path, measure: str) -> Path | None:
    """The checkpoint with the best evaluation (the first of several equals), or None where none was evaluated; see `score`."""
    best, highest = None, -math.inf
    for checkpoint in list_checkpoints(folder):
        try:
            found = score(read_metadata(checkpoint).get("evaluation") or {}, measure)
        except RunError:  # damaged: resuming from it says so
            continue
        if found is not None and found > highest:
            best, highest = checkpoint, found
    return best


def beats_all(folder: Path, scalars: Mapping[str, float], measure: str) -> bool:
    """Whether an evaluation is better than that of every checkpoint of the run in a folder; see `score`."""
    found, best = score(scalars, measure), best_checkpoint(folder, measure)
    if found is None or best is None:
        return found is not None
    before = score(read_metadata(best)["evaluation"], measure)
    return before is None or found > before


def score(scalars: Mapping[str, float], measure: str) -> float | None:
    """An evaluation as one number, higher is better; None where it lacks the measure.

    measure: a scalar's name, followed by ":min" where lower is better; "auto": the first of AUTO that there is; "": none.
    """
    for name in AUTO if measure == "auto" else (measure,):
        scalar, _, direction = name.partition(":")
        value = scalars.get(scalar)
        if value is not None and not math.isnan(value):
            return -value if direction == "min" else value
    return None


def last_words(folder: Path) -> str | None:
    """The last line that the latest training process of its own wrote before it ended, or None. Reads the log's end alone."""
    try:
        with (folder / PROCESS_LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return None
    return lines[-1].removeprefix("error: ") if lines and not lines[-1].startswith(BEGINS) else None
