"""Atomic files: written under a temporary name, synced and renamed, so that they are whole or absent even after a power cut."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from .folder import RunError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def disk_problem(error: BaseException) -> str | None:
    """Return what is wrong with the disk and what to do, in one sentence; None if the error has another cause."""
    kind, text = _disk_error(error)
    if kind == "full":
        return f"The disk is full: {text}; free some space and resume."
    if kind == "forbidden":
        return f"The folder cannot be written: {text}; make it writable, or choose another one."
    return f"The disk fails: {text}; check that it is connected, or choose another one." if kind else None


def whole_disk_affected(error: BaseException) -> bool:
    """Whether an error tells of a full or failing disk, which no other folder on it escapes."""
    return _disk_error(error)[0] in ("full", "failing")


def _disk_error(error: BaseException) -> tuple[Literal["full", "forbidden", "failing", ""], str]:
    """Return what kind of disk error it is ("" for none) and its text."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in (*FULL, *FORBIDDEN, errno.EIO):
        text = f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
        return ("full" if error.errno in FULL else "forbidden" if error.errno in FORBIDDEN else "failing"), text
    low = text.lower()
    if not (isinstance(error, sqlite3.Error) or "os error" in low or "no space left" in low):
        return "", text
    if "disk is full" in low or "no space left" in low:
        return "full", text
    if any(words in low for words in ("readonly", "read-only", "unable to open", "permission denied")):
        return "forbidden", text
    return ("failing" if "disk i/o error" in low else ""), text


@contextlib.contextmanager
def disk_errors_as_run_errors() -> Iterator[None]:
    """Turn disk errors into RunErrors of one sentence, inside a with block or a decorated function."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        problem = disk_problem(error)
        if problem is None:
            raise
        raise RunError(problem) from error


def sync(path: Path) -> None:
    """Wait until the content of a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Replace a file by JSON atomically. If that fails (OSError), the old file remains. indent: None for one long line."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        draft.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8")
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def publish(draft: Path, folder: Path) -> None:
    """Rename a finished temporary folder to its final name, replacing a folder of that name. Raises OSError."""
    for path in draft.rglob("*"):
        sync(path)
    sync(draft)
    if folder.exists():
        remove(folder)
    draft.rename(folder)
    sync(folder.parent)


def remove(folder: Path) -> None:
    """Delete a folder; it is renamed first, so that it is never seen half deleted."""
    hidden = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    folder.rename(hidden)
    shutil.rmtree(hidden)
