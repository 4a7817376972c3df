"""Requests to a running run: one small JSON file each in the run's folder, read by the loop at safe points.

A file dropped by rename is whole or absent, needs no lock and no server, and works from any thread, process or
machine that shares the folder. What a run did not hear before it ended is not kept for the next time: ask again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """Leave a request for the loop; returns its id. Raises ValueError for a kind that no loop understands."""
    if kind not in KINDS:
        raise ValueError(f"No run understands the request {kind!r}; send one of {', '.join(KINDS)}.")
    box = run_folder / FOLDER
    box.mkdir(exist_ok=True)
    id = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    draft = box / f".{id}.json"
    draft.write_text(json.dumps({"kind": kind, "detail": detail}))
    draft.replace(box / f"{id}.json")
    return id


def take(run_folder: Path, kinds: Collection[str] | None = None) -> list[Request]:
    """All waiting requests (of some kinds, the others stay), oldest first; each is handed out once. Only who trains calls this."""
    box = run_folder / FOLDER
    found = []
    for path in sorted(box.glob("[!.]*.json")):
        request = _read(path)
        if kinds is not None and request.kind not in kinds:
            continue
        found.append(request)
        path.unlink()
    return found


def _read(path: Path) -> Request:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, detail = content["kind"], content["detail"]
        if not isinstance(kind, str) or not isinstance(detail, dict):
            raise ValueError("kind must be a text and detail an object")
        return Request(kind, detail, path.stem)
    except (ValueError, KeyError, TypeError) as error:
        return Request(UNREADABLE, {"file": path.name, "reason": str(error)}, path.stem)
