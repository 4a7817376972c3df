"""Delete runs into the trash of `LAB_HOME`, where they can be restored from until the trash is emptied."""

from __future__ import annotations

import contextlib
import errno
import json
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lab import home
from lab.run.lock import RunLock
from lab.store import RunError, list_checkpoints, read_twins
from lab.store.durable import disk_errors_as_run_errors, disk_problem, remove, write_json
from lab.store.folder import RUN_FILE

from .summary import RunSummary

FILE_NAME = "deleted.json"
"""File in the folder of a deleted run: where it was, who deleted it, and when."""


@dataclass(frozen=True)
class Freed:
    """Effect of deleting some runs.

    Attributes:
        bytes: Disk space that is freed once the trash is emptied, without checkpoints that other runs share.
        checkpoints: Checkpoints that are deleted.
        warnings: Runs that refer to one of them, in sentences.
    """

    bytes: int
    checkpoints: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TrashedRun:
    """A run in the trash.

    Attributes:
        folder: Its folder in the trash.
        place: The folder it was in, and returns to.
        author: Who deleted it; "" if not known.
        time: When, ISO 8601; "" if not known.
    """

    folder: Path
    place: Path
    author: str
    time: str

    @property
    def name(self) -> str:
        """Name of the folder it was in."""
        return self.place.name

    @disk_errors_as_run_errors()
    def restore(self) -> Path:
        """Move the run back to where it was, and return that folder. Raises RunError if there is something else by now."""
        if self.place.exists():
            raise RunError(f"{self.place} exists, so the deleted run cannot return to it; move or rename that folder first.")
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.folder.rename(self.place)
        (self.place / FILE_NAME).unlink(missing_ok=True)
        home.list_run(self.place)
        return self.place


def freed_by(folders: Iterable[Path], known: Iterable[RunSummary]) -> Freed:
    """Return what deleting some runs frees, and which other runs refer to them.

    Args:
        folders: Folders of the runs.
        known: All known runs.
    """
    deleted = [folder.resolve() for folder in folders]
    branches: dict[Path, list[str]] = {}
    for run in known:
        if run.parent is not None and run.folder.resolve() not in deleted:
            branches.setdefault(run.parent, []).append(run.folder.name)
    warnings = []
    for folder in deleted:
        with contextlib.suppress(RunError):  # the links are damaged, so no twin can be opened by them
            if twins := [twin.name for twin in read_twins(folder) if twin.resolve() not in deleted]:
                warnings.append(f"{folder.name} is a twin of {_some(twins)}, which stays without it.")
        if folder in branches:
            warnings.append(f"{_some(branches[folder])} branched from {folder.name}, and keeps its own copy of the checkpoint.")
    checkpoints = sum(len(list_checkpoints(folder)) for folder in deleted)
    return Freed(disk_bytes(deleted), checkpoints, tuple(warnings))


def disk_bytes(folders: Iterable[Path]) -> int:
    """Return the disk space of the files in some folders, without files that have another name outside of them."""
    names: dict[tuple[int, int], int] = {}
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # replaced at this moment
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                key = status.st_dev, status.st_ino
                names[key] = names.get(key, 0) + 1
                sizes[key] = status.st_nlink, status.st_blocks * 512
    return sum(size for key, (links, size) in sizes.items() if names[key] >= links)


def delete_run(folder: Path, *, author: str | None = None) -> TrashedRun | None:
    """Move a run's folder to the trash. Return its entry there, or None if the folder holds no run (any more).

    Raises:
        RunError: The run is queued, running or paused, it is on another disk than the trash, or it cannot be moved.
    """
    actual = folder.resolve()
    with _unused(folder) as exists:
        if not exists:
            return None
        entry = TrashedRun(_free_name(actual.name), actual, author or home.author(), _now())
        try:
            entry.folder.parent.mkdir(parents=True, exist_ok=True)
            write_json(
                actual / FILE_NAME, {"place": home.in_home(actual) or str(actual), "author": entry.author, "time": entry.time}
            )
            actual.rename(entry.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                (actual / FILE_NAME).unlink(missing_ok=True)
            if error.errno == errno.EXDEV:
                raise RunError(
                    f"{actual} is on another disk than the trash ({home.trash_dir()}); delete it for good: "
                    f"run.delete(for_good=True), or `python -m lab runs delete {folder.name} --for-good`."
                ) from None
            raise RunError(f"{actual} cannot be moved to the trash. {disk_problem(error) or error}") from None
    _unlink(folder)
    return entry


def delete_for_good(folder: Path) -> None:
    """Delete a run's folder at once, past the trash. Raises RunError if the run has not ended, or cannot be deleted."""
    with _unused(folder) as exists:
        if exists:
            _remove(folder.resolve())
    _unlink(folder)


def trashed_runs() -> list[TrashedRun]:
    """Return the runs in the trash, the latest deleted first."""
    folders = home.trash_dir().iterdir() if home.trash_dir().exists() else ()
    runs = [_entry(folder) for folder in folders if (folder / RUN_FILE).exists()]
    return sorted(runs, key=lambda run: run.time, reverse=True)


def find_trashed(name: str) -> TrashedRun:
    """Return the run in the trash whose folder has a name; the latest deleted of several. Raises RunError if there is none."""
    for run in trashed_runs():
        if name in (run.name, run.folder.name):
            return run
    raise RunError(f"There is no run {name!r} in the trash; `python -m lab runs trash` lists those that are.")


def empty_trash(runs: Sequence[TrashedRun] | None = None) -> int:
    """Delete runs in the trash for good (all if none are given), and return the disk space that this frees, in bytes."""
    folders = [run.folder for run in (trashed_runs() if runs is None else runs)]
    size = disk_bytes(folders)
    for folder in folders:
        if folder.exists():
            _remove(folder)
    return size


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    """Hold the lock of a run that nobody trains; yields whether there is a run. Raises RunError if it is trained."""
    if not (folder / RUN_FILE).exists():
        yield False
        return
    try:
        lock = RunLock(folder, patience=0.2)
    except RuntimeError:
        raise RunError(f"The run {folder.name} trains or waits for its device; stop it before you delete it.") from None
    except OSError as error:
        raise RunError(f"{folder} cannot be deleted. {disk_problem(error) or error}") from None
    try:
        yield True
    finally:
        lock.release()


def _remove(folder: Path) -> None:
    try:
        remove(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be deleted ({error.strerror}: {error.filename}); delete the rest by hand.") from None


def _unlink(folder: Path) -> None:
    """Remove a link to the folder of a deleted run."""
    if folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.unlink()


def _entry(folder: Path) -> TrashedRun:
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return TrashedRun(folder, home.home() / content["place"], str(content["author"]), str(content["time"]))
    except (OSError, ValueError, TypeError, KeyError):  # moved here by hand
        return TrashedRun(folder, home.runs_dir() / folder.name, "", "")


def _free_name(name: str) -> Path:
    names = (name if number == 1 else f"{name}-{number}" for number in range(1, 10_000))
    return next(path for each in names if not (path := home.trash_dir() / each).exists())


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
