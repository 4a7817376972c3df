"""Files that are whole or absent, after a power cut too: written under another name, synced, renamed."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Put JSON in the place of a file. If it cannot be written (OSError), what was there stays."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def publish(draft: Path, folder: Path) -> None:
    """Give a folder that was written under another name its own; one of that name makes way. Raises OSError."""
    for path in draft.rglob("*"):
        sync(path)
    sync(draft)
    if folder.exists():
        remove(folder)
    draft.rename(folder)
    sync(folder.parent)


def remove(folder: Path) -> None:
    """Delete a folder so that it is never seen half deleted."""
    hidden = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    folder.rename(hidden)
    shutil.rmtree(hidden)
