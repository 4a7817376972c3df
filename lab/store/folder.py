"""Files in the folder of a run: manifest, checkpoints and the log of its training process."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any, SupportsIndex

from lab.errors import LabError

RUN_FILE = "run.json"
"""The manifest: configuration, pairs and versions, written when the run is created."""
RUN_FORMAT = 2
"""Format of a run folder, stored in the manifest. Increase it whenever a file in the folder changes incompatibly."""
PAIRS_BESIDE = "pairs_beside"
"""Entry of the manifest: path from the run's folder to its pairs in the same home."""
CHECKPOINTS = "checkpoints"
PROCESS_LOG = "process.log"
"""Standard output and error of a run's own training process."""
BEGINS = "--- "
"""Start of the line in that log that marks the beginning of another process."""
METADATA_FILE = "trainer.json"
"""Metadata file of a checkpoint."""
AUTO = ("eval/oracle_reward", "eval/reward", "eval/rewards/accuracies")
"""Scalars that measure the quality of a checkpoint, the most reliable first."""
STOPPING = "stopping"
"""Stage of a run from a stop request until its last checkpoint is written."""
ENDED = ("finished", "stopped", "failed", "crashed")
"""States in which a run no longer trains."""


class RunError(LabError):
    """A run folder cannot be opened or used; the message is one sentence."""


class NoStoreError(RunError, FileNotFoundError):
    """A run folder without a database: the run was made and has not started, or the folder was deleted."""


class RunFormatError(RunError):
    """A run folder whose format this version of the lab cannot read."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the run in a folder: configuration, pairs and versions.

    In a home that was copied or moved, its pairs are those in that home.

    Raises:
        RunError: The folder holds no run, a damaged one, or one of another format.
    """
    try:
        manifest = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("it holds no JSON object")
    except ValueError as error:
        raise RunError(f"{folder / RUN_FILE} is damaged ({error}); restore the file, or delete the folder.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} holds no run ({RUN_FILE} is missing); `python -m lab runs` lists the known runs.") from None
    if manifest.get("format") != RUN_FORMAT:
        raise RunFormatError(
            f"The run in {folder} has format {manifest.get('format', 'none')}, and this version of the lab reads "
            f"only {RUN_FORMAT}; open it with the version that trained it, or train it again."
        )
    if isinstance(beside := manifest.get(PAIRS_BESIDE), str):
        place = folder.resolve() if folder.is_symlink() else folder.absolute()
        near, stored = Path(os.path.normpath(place / beside)), Path(str(manifest.get("pairs_store")))
        if near.exists() and not (stored.exists() and stored.samefile(near)):
            manifest["pairs_store"] = str(near)
    return manifest


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders of the run in a folder, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("step-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step of a checkpoint, from its folder's name; -1 if the name has none."""
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def read_metadata(checkpoint: Path) -> dict[str, Any]:
    """Return the metadata of a checkpoint: step, settings, pairs_version, changes, evaluation. Raises RunError if it is damaged."""
    try:
        metadata = json.loads((checkpoint / METADATA_FILE).read_text(encoding="utf-8"))
        if not isinstance(metadata, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise RunError(f"{checkpoint / METADATA_FILE} cannot be read ({error}); use an earlier checkpoint.") from None
    return metadata


def best_checkpoint(folder: Path, measure: str) -> Path | None:
    """Return the checkpoint with the best evaluation (the earliest of equals), or None if none was evaluated; see `score`."""
    best, highest = None, -math.inf
    for checkpoint in list_checkpoints(folder):
        try:
            value = score(read_metadata(checkpoint).get("evaluation") or {}, measure)
        except RunError:  # damaged: reported when a run resumes from it
            continue
        if value is not None and value > highest:
            best, highest = checkpoint, value
    return best


def beats_all(folder: Path, scalars: Mapping[str, float], measure: str) -> bool:
    """Return whether an evaluation is better than that of every checkpoint of the run in a folder; see `score`."""
    value, best = score(scalars, measure), best_checkpoint(folder, measure)
    if value is None or best is None:
        return value is not None
    before = score(read_metadata(best)["evaluation"], measure)
    return before is None or value > before


def score(scalars: Mapping[str, float], measure: str) -> float | None:
    """Reduce an evaluation to one number, higher is better; None if the measure was not recorded.

    Args:
        scalars: Scalars of the evaluation.
        measure: Name of a scalar, followed by ":min" if lower is better; "auto": the first recorded one of AUTO; "": none.
    """
    for name in AUTO if measure == "auto" else (measure,):
        scalar, _, direction = name.partition(":")
        value = scalars.get(scalar)
        if value is not None and not math.isnan(value):
            return -value if direction == "min" else value
    return None


def as_step(step: object) -> int:
    """Return a step as an int, also from one of NumPy. Raises RunError for anything but a whole number."""
    if not isinstance(step, SupportsIndex) or isinstance(step, bool):
        raise RunError(f"{step!r} is no step; give a whole number.")
    return index(step)


def last_log_line(folder: Path) -> str | None:
    """Return the last line in the log of the run's latest training process, or None. Reads only the end of the log."""
    try:
        with (folder / PROCESS_LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return None
    return lines[-1].removeprefix("error: ") if lines and not lines[-1].startswith(BEGINS) else None
