"""Index of the runs of `LAB_HOME`, so that a thousand of them are listed without opening a thousand databases.

The runs' own files stay the only truth: an entry is used as long as the time, size and identity of the files it was read from are
unchanged, and whether a run is trained is asked at every listing. The index is kept in memory, and in one file in `LAB_CACHE` for
the next process; it can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import home
from lab.run.lock import is_held
from lab.store.durable import write_json
from lab.store.folder import ENDED, RUN_FILE
from lab.store.schema import FILE_NAME as STORE_FILE

from . import labels
from .summary import Facts, RunSummary, UnreadableRun, read_facts, summary_of

VERSION = 1
"""Format of the index file. Increase it whenever `read_facts` returns something else."""

SETTLED = 1.0
"""Seconds after which a file that is written again has another time; an entry read earlier than that is not used again."""

WORTH_WRITING = 16
"""New entries from which the file is written; reading fewer stores costs less than writing it."""

Signature = tuple[tuple[int, int, int] | None, ...]
"""Time [ns], size [bytes] and inode of the files that an entry was read from; None for a file that is missing or empty."""


@dataclass(frozen=True)
class RunListing:
    """The runs that were found, newest first, and the folders that cannot be read."""

    runs: list[RunSummary]
    unreadable: list[UnreadableRun]


@dataclass(frozen=True)
class _Entry:
    signature: Signature
    settled: bool
    facts: Facts | UnreadableRun


def list_runs() -> RunListing:
    """Return summaries of all runs of `LAB_HOME`, the newest first."""
    return _index(home.runs_dir()).list(home.run_folders())


def summarize(folder: Path) -> RunSummary | UnreadableRun:
    """Return the summary of the run in a folder, or why it cannot be read."""
    facts = read_facts(folder)
    if isinstance(facts, UnreadableRun):
        return facts
    return summary_of(folder, facts, live=facts["status"]["state"] not in ENDED and is_held(folder))


class RunIndex:
    """Index of the runs in some folders. Safe to use from several threads.

    Args:
        file: The file that keeps the index for other processes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = _load(file)
        self._written = {folder: entry.signature for folder, entry in self._entries.items()}

    def list(self, folders: Sequence[Path]) -> RunListing:
        """Return summaries of the runs in some folders, the newest first; folders without a run are left out."""
        with self._lock:
            known, listing = self._entries, RunListing([], [])
            self._entries = {}
            for folder in folders:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # deleted since the folders were listed
                    self._add(folder, known.get(str(folder)), listing)
            self._write()
        listing.runs.sort(key=lambda run: run.created, reverse=True)
        return listing

    def _add(self, folder: Path, entry: _Entry | None, listing: RunListing) -> None:
        """Add a run to a listing and to the index."""
        if entry is None or not entry.settled or entry.signature != _signature(folder):
            entry = self._read(folder)
        live = _trains(folder, entry)
        if live is False and entry.signature != _signature(folder):  # it ended after its store was read, before its lock was tested
            entry = self._read(folder)
        self._entries[str(folder)] = entry
        if isinstance(entry.facts, UnreadableRun):
            listing.unreadable.append(entry.facts)
        else:
            listing.runs.append(summary_of(folder, entry.facts, live=bool(live)))

    def _read(self, folder: Path) -> _Entry:
        signature, now = _signature(folder), time.time_ns()
        facts = read_facts(folder)
        written = max(stamp[0] for stamp in signature if stamp is not None)
        return _Entry(signature, now - written > SETTLED * 1e9, facts)

    def _write(self) -> None:
        """Write the file if it is worth it. Without a cache folder that can be written, the next process reads the stores again."""
        kept = {
            folder: entry for folder, entry in self._entries.items() if entry.settled and not isinstance(entry.facts, UnreadableRun)
        }
        if sum(self._written.get(folder) != entry.signature for folder, entry in kept.items()) < WORTH_WRITING:
            return
        self._written = {folder: entry.signature for folder, entry in kept.items()}
        runs = {folder: [entry.signature, _as_json(entry.facts)] for folder, entry in kept.items()}
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {"version": VERSION, "runs": runs}, indent=None)


_indexes: dict[Path, RunIndex] = {}
_indexes_lock = threading.Lock()


def _index(runs: Path) -> RunIndex:
    """Return this process's index of a folder of runs."""
    file = home.cache() / "runs" / f"{hashlib.blake2b(str(runs).encode(), digest_size=8).hexdigest()}.json"
    with _indexes_lock:
        if file not in _indexes:
            _indexes[file] = RunIndex(file)
        return _indexes[file]


def _load(file: Path) -> dict[str, _Entry]:
    """Read the index file; an absent, damaged or older one is an empty index."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            return {}
        return {
            folder: _Entry(tuple(tuple(stamp) if stamp else None for stamp in signature), True, _from_json(facts))
            for folder, (signature, facts) in content["runs"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _trains(folder: Path, entry: _Entry) -> bool | None:
    """Return whether a run that its store calls live is trained; None for a run that has ended, or cannot be read."""
    if isinstance(entry.facts, UnreadableRun) or entry.facts["status"]["state"] in ENDED:
        return None
    return is_held(folder)


def _as_json(facts: Facts | UnreadableRun) -> dict[str, Any]:
    assert not isinstance(facts, UnreadableRun)
    return facts | {"labels": asdict(facts["labels"])}


def _from_json(facts: dict[str, Any]) -> Facts:
    return facts | {"labels": labels.parse_labels(facts["labels"])}


def _signature(folder: Path) -> Signature:
    """Return the signature of a run's files. Raises FileNotFoundError or NotADirectoryError if the folder holds no run."""
    manifest = (folder / RUN_FILE).stat()
    others = (STORE_FILE, f"{STORE_FILE}-wal", labels.FILE_NAME)
    return ((manifest.st_mtime_ns, manifest.st_size, manifest.st_ino), *(_stamp(folder / name) for name in others))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status.st_size else None
