"""Requests to a running run, handled by the training loop at safe points.

Inside the process that trains, a request stays in memory (see `in_process`), so that a run can be stopped when the disk is full.
From any other process or machine it is a small JSON file in the run's folder, written under another name and renamed, so that it is
complete or absent without a lock. Requests that a stopped run has not handled are handled when it is resumed; those to a run that
failed or crashed are dropped.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.store import StoreReader
from lab.store.folder import RunError

from . import in_process

FOLDER = "requests"
PAUSING = ("pause", "resume", "stop")
"""Requests that can be handled at any moment, and that are for the present training only."""
KINDS = (*PAUSING, "checkpoint", "set", "edits")
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Request:
    """A control request to a run.

    Attributes:
        kind: One of KINDS, another text from a malformed file, or UNREADABLE with the reason in `detail`.
        detail: For "set" {"settings": {"learning_rate": 5e-5, "base.beta": 0.2}}, for "edits" {"version": 7}, for "checkpoint"
            possibly {"keep": False}, else empty.
        id: The id that `send` returned; the "change" or "refused" event that answers the request contains it.
    """

    kind: str
    detail: dict[str, Any] = field(default_factory=dict)
    id: str = ""


def send(run_folder: Path, kind: str, **detail: Any) -> str:
    """Send a request to the training loop and return its id.

    Raises:
        ValueError: If `kind` is not one of KINDS.
        RunError: If the request cannot be written.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no request {kind!r}; send one of {', '.join(KINDS)}.")
    id = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    if not in_process.put(run_folder, id, kind, detail):
        write(run_folder, id, kind, detail)
    return id


def write(run_folder: Path, id: str, kind: str, detail: dict[str, Any]) -> None:
    """Write a request into a run's folder. Raises RunError if it cannot be written."""
    box = run_folder / FOLDER
    draft = box / f".{id}.json"
    try:
        box.mkdir(exist_ok=True)
        draft.write_text(json.dumps({"kind": kind, "detail": detail}))
        draft.replace(box / f"{id}.json")
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RunError(
            f"The request {kind} could not be written to {box} ({error.strerror}); make room or allow writing, and send it again."
        ) from None


def take(run_folder: Path, kinds: Collection[str] | None = None) -> list[Request]:
    """Remove and return the pending requests, oldest first. Only the process that trains calls this.

    Args:
        run_folder: Folder of the run.
        kinds: Take requests of these kinds and leave the others; None takes all.
    """
    requests = []
    for entry in in_process.waiting(run_folder):
        id, kind, detail = entry
        if kinds is None or kind in kinds:
            in_process.taken(run_folder, entry)
            requests.append(Request(kind, detail, id))
    for path in sorted((run_folder / FOLDER).glob("[!.]*.json")):
        request = _read(path)
        if kinds is not None and request.kind not in kinds:
            continue
        try:
            path.unlink()
        except OSError:  # a read-only folder: remember the file, or it would be taken again and again
            if (path.stat().st_ino, path.name) in _handled:
                continue
            _handled.add((path.stat().st_ino, path.name))
        requests.append(request)
    return sorted(requests, key=lambda request: request.id)


def drop_stale(run_folder: Path) -> None:
    """Remove the requests of an earlier training, except those that a stopped run has yet to handle."""
    try:
        state = StoreReader(run_folder).status().get("state")
    except (OSError, sqlite3.Error):  # not trained yet
        state = None
    take(run_folder, PAUSING if state in (None, "stopped") else None)


_handled: set[tuple[int, str]] = set()
"""Request files that were taken but could not be deleted, by inode and name."""


def pending(run_folder: Path, kind: str) -> bool:
    """Return whether a request of a kind is pending. Reads no file if no request is pending."""
    if any(waiting_kind == kind for _, waiting_kind, _ in in_process.waiting(run_folder)):
        return True
    try:
        return any(_read(path).kind == kind for path in (run_folder / FOLDER).glob("[!.]*.json"))
    except OSError:
        return False


def _read(path: Path) -> Request:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, detail = content["kind"], content["detail"]
        if not isinstance(kind, str) or not isinstance(detail, dict):
            raise ValueError("kind must be a text and detail an object")
        return Request(kind, detail, path.stem)
    except FileNotFoundError:  # taken since the folder was listed
        return Request(UNREADABLE, {"file": path.name, "reason": "it is gone"}, path.stem)
    except (ValueError, KeyError, TypeError) as error:
        return Request(UNREADABLE, {"file": path.name, "reason": str(error)}, path.stem)
