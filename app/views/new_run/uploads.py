"""Uploaded files of pairs, kept in `LAB_HOME` and imported like any other pair set."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from pathlib import PurePath

from lab import home
from lab.opening import open_pairs
from lab.pairs import PairsError, PairStore

MEGABYTES = 50

TYPES = ("jsonl", "ndjson", "json", "csv", "parquet")
"""File name endings that can be read."""


def store_upload(name: str, data: bytes) -> PairStore:
    """Store an uploaded file as a set of pairs.

    Raises:
        PairsError: The file has no known ending, is too large, holds a wrong row (the error names it), or cannot be stored; nothing
            of it is kept.
    """
    stem, dot, kind = PurePath(name).name.rpartition(".")
    kind = kind.lower()
    if not dot or kind not in TYPES:
        raise PairsError(f"{name} has no known format; upload a .jsonl, .json, .csv or .parquet file.")
    if len(data) > MEGABYTES * 2**20:
        raise PairsError(
            f"{name} has more than {MEGABYTES} MB; give its path instead, or import it with `python -m lab pairs FILE`."
        )
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:60] or "pairs"
    # One folder per content: the file keeps its name, which is the name of the pair set.
    path = home.home() / "uploads" / hashlib.sha256(data).hexdigest()[:12] / f"{stem}.{kind}"
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        store = open_pairs(str(path))
        new = False
        return store
    except PairsError as error:
        raise PairsError(str(error).replace(str(path), name)) from None
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise PairsError(f"{name} could not be stored ({reason}); check the disk.") from None
    finally:
        if new:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                path.parent.rmdir()
