"""Uploaded files of pairs, kept in `LAB_HOME`."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path, PurePath

from lab import home
from lab.pairs import PairsError
from lab.pairs.open_store import slug

MEGABYTES = 50
TYPES = ("jsonl", "ndjson", "json", "csv", "tsv", "parquet", "zip")
PACKED = ("gz", "bz2", "xz", "zst", "zip")
"""File name endings that can be read."""


def keep_upload(name: str, data: bytes) -> tuple[Path, bool]:
    """Write an uploaded file to `LAB_HOME`, in a folder of its content; return its path, and whether it is new.

    Raises:
        PairsError: The file has no known ending, is too large, or cannot be stored.
    """
    parts = PurePath(name).name.split(".")
    packed = len(parts) > 2 and parts[-1].lower() in PACKED
    stem, kinds = ".".join(parts[: -2 if packed else -1]), [part.lower() for part in parts[-2 if packed else -1 :]]
    if not stem or kinds[0] not in TYPES:
        raise PairsError(f"{name} has no known format; upload a .jsonl, .json, .csv, .tsv or .parquet file, packed or not.")
    if len(data) > MEGABYTES * 2**20:
        raise PairsError(
            f"{name} has more than {MEGABYTES} MB; give its path instead, or import it with `python -m lab pairs FILE`."
        )
    # One folder per content: the file keeps its name, which is the name of the pair set.
    path = home.home() / "uploads" / hashlib.sha256(data).hexdigest()[:12] / ".".join([slug(stem), *kinds])
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if new:
            path.write_bytes(data)
    except OSError as error:
        raise PairsError(f"{name} could not be stored ({error.strerror or error}); check the disk.") from None
    return path, new


def forget_upload(path: Path) -> None:
    """Remove an uploaded file and its folder."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
