"""Summary of a run for lists: state, settings, latest numbers and tiny curves, from its files and one read of its store."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from lab.run import in_process
from lab.run.requests import pending
from lab.store import ENDED, NoStoreError, RunError, StoreReader, last_log_line, read_manifest
from lab.store.folder import RUN_FILE, STOPPING, RunFormatError
from lab.store.schema import FILE_NAME as STORE_FILE

from .labels import RunLabels, read_labels

SPARKLINES = (
    "loss",
    "rewards/margins",
    "rewards/accuracies",
    "eval/loss",
    "eval/rewards/accuracies",
    "eval/rewards/margins",
    "eval/oracle_reward",
    "eval/reward",
    "eval/kl",
)
"""Scalars that a summary has a tiny curve of."""

POINTS = 32
"""Most points of such a curve."""

DIGITS = 6
"""Significant digits of the numbers of a summary."""

STATUS = ("state", "stage", "step", "seconds", "remaining", "error", "executor", "process")
"""Status values of a run that a summary needs."""

Facts = dict[str, Any]
"""Everything in a summary that changes only with the run's files, as JSON."""


@dataclass(frozen=True)
class RunSummary:
    """A run in a list.

    Attributes:
        folder: The run's folder.
        name: Its name: the one that it was given, else the one it was made with, else that of its folder.
        state: State as in `Run.state`.
        stopping: Whether it was requested to stop and has not ended.
        step: Optimizer steps done.
        steps: Optimizer steps that it was made for.
        objective: Objective with its parameters.
        pairs: Name of the pair set.
        pairs_store: Its file or address.
        model: Folder, hub id or "world".
        seed: Its seed.
        learning_rate: Its peak learning rate.
        created: When it was made, seconds since 1970.
        seconds: Seconds that the steps took; None if none was trained.
        remaining: Estimated seconds to its last step while it trains.
        error: Why it failed or crashed, in one sentence, or None.
        parent: Folder of the run that it branched from, or None.
        labels: Tags, note, and whether it is archived.
        numbers: The latest value of every recorded scalar.
        sparklines: (steps, values) of a few scalars, thinned to `POINTS` points.
    """

    folder: Path
    name: str
    state: str
    stopping: bool
    step: int
    steps: int
    objective: Mapping[str, Any]
    pairs: str
    pairs_store: str
    model: str
    seed: int
    learning_rate: float
    created: float
    seconds: float | None
    remaining: float | None
    error: str | None
    parent: Path | None
    labels: RunLabels
    numbers: Mapping[str, float]
    sparklines: Mapping[str, tuple[list[int], list[float]]]


@dataclass(frozen=True)
class UnreadableRun:
    """A folder among the runs that cannot be listed.

    Attributes:
        folder: The folder.
        kind: "unstarted" (made, and nothing recorded yet), "format" (of another version of the lab) or "damaged".
        reason: Why it cannot be read, in one sentence.
    """

    folder: Path
    kind: Literal["unstarted", "format", "damaged"]
    reason: str


def read_facts(folder: Path) -> Facts | UnreadableRun:
    """Read what a summary needs from the files of the run in a folder, or say why it cannot be read."""
    try:
        manifest, labels = read_manifest(folder), read_labels(folder)
        with closing(StoreReader(folder)) as reader:  # a thousand open files would be too many
            return _facts(manifest, labels, reader)
    except NoStoreError as error:
        return UnreadableRun(folder, "unstarted", str(error))
    except RunFormatError as error:
        return UnreadableRun(folder, "format", str(error))
    except (RunError, OSError) as error:
        return UnreadableRun(folder, "damaged", str(error))
    except sqlite3.Error as error:
        damaged = type(error) is sqlite3.DatabaseError  # else it is locked, or its disk fails
        remedy = "; restore the file, or delete the folder" if damaged else ""
        return UnreadableRun(folder, "damaged", f"{folder / STORE_FILE} cannot be read ({error}){remedy}.")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return UnreadableRun(
            folder, "damaged", f"{folder / RUN_FILE} is damaged ({type(error).__name__}: {error}); restore the file."
        )


def _facts(manifest: Mapping[str, Any], labels: RunLabels, reader: StoreReader) -> Facts:
    status, config = reader.status(), manifest["config"]
    latest, lines = reader.scalars.latest(), reader.scalars.sparklines(SPARKLINES, POINTS)
    parent = (manifest.get("branch") or {}).get("run")
    return {
        "name": labels.name or str(config.get("name") or ""),
        "steps": int(config["steps"]),
        "objective": {**config["objective"], "name": str(config["objective"]["name"])},
        "pairs": str(manifest.get("pairs_name", config["pairs"])),
        "pairs_store": str(manifest.get("pairs_store", "")),
        "model": str(config["model"]),
        "seed": int(config.get("seed", 0)),
        "learning_rate": float(config.get("learning_rate", math.nan)),
        "created": datetime.fromisoformat(manifest["created"]).timestamp(),
        "parent": None if parent is None else str(Path(parent)),
        "labels": labels,
        "status": {
            key: status.get(key) for key in ("state", "stage", "step", "seconds", "remaining", "error", "executor", "process")
        },
        "numbers": {name: _short(value) for name, value in latest.items()},
        "sparklines": {name: ([int(s) for s in steps], [_short(v) for v in values]) for name, (steps, values) in lines.items()},
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def summary_of(folder: Path, facts: Facts, *, live: bool) -> RunSummary:
    """Return the summary of a run at this moment. live: whether a thread or process trains it."""
    status = facts["status"]
    state, error = status["state"] or "queued", status["error"]
    if state not in ENDED and not live:
        outcome = in_process.unwritten_outcome(folder, status)
        state = outcome.state if outcome else "crashed"
        error = error or (outcome.error if outcome else last_log_line(folder) if status["executor"] == "process" else None)
    return RunSummary(
        folder=folder,
        name=facts["name"] or folder.name,
        state=state,
        stopping=live and (status["stage"] == STOPPING or pending(folder, "stop")),
        step=int(status["step"] or 0),
        steps=facts["steps"],
        objective=facts["objective"],
        pairs=facts["pairs"],
        pairs_store=facts["pairs_store"],
        model=facts["model"],
        seed=facts["seed"],
        learning_rate=facts["learning_rate"],
        created=facts["created"],
        seconds=status["seconds"],
        remaining=status["remaining"] if live else None,
        error=error,
        parent=Path(facts["parent"]) if facts["parent"] else None,
        labels=facts["labels"],
        numbers=facts["numbers"],
        sparklines=facts["sparklines"],
    )
