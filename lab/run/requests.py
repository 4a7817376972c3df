"""Requests to a running run, handled by the training loop at safe points.

Inside the process that trains a request stays in memory (`inprocess.py`), so that a full disk keeps no run from being stopped.
From any other process or machine it is one small JSON file in the run's folder: dropped by rename it is whole or absent, and
needs no lock and no server. Requests that were not handled before the run ended are not kept for the next time.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.store.folder import RunError

from . import in_process

FOLDER = "requests"
KINDS = ("pause", "resume", "stop", "checkpoint", "set", "edits")
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Request:
    """What somebody wants of a run.

    kind: one of KINDS, or whatever else stood in the file; UNREADABLE where nothing did, with the reason in `detail`.
    detail: for "set" {"settings": {"learning_rate": 5e-5, "base.beta": 0.2}}, for "edits" {"version": 7}, else empty.
    id: what `send` gave whoever asked; the event that answers ("change", "refused") has it too.
    """

    kind: str
    detail: dict[str, Any] = field(default_factory=dict)
    id: str = ""


def send(run_folder: Path, kind: str, **detail: Any) -> str:
    """Leave a request for the loop; returns its id.

    Raises ValueError for a kind that no loop understands, RunError where the request cannot be written.
    """
    if kind not in KINDS:
        raise ValueError(f"No run understands the request {kind!r}; send one of {', '.join(KINDS)}.")
    id = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    if in_process.put(run_folder, id, kind, detail):
        return id
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
    return id


def take(run_folder: Path, kinds: Collection[str] | None = None) -> list[Request]:
    """Take all waiting requests (of some kinds, the others stay), oldest first. Only the process that trains calls this."""
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
        except OSError:  # a folder that has become read-only: the file would be taken again and again
            if (path.stat().st_ino, path.name) in _handled:
                continue
            _handled.add((path.stat().st_ino, path.name))
        requests.append(request)
    return sorted(requests, key=lambda request: request.id)


_handled: set[tuple[int, str]] = set()
"""Request files that were handed out and could not be deleted."""


def pending(run_folder: Path, kind: str) -> bool:
    """Whether a request of a kind waits to be taken. Cheap: nothing is read where nothing waits."""
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
