"""Folders of the lab: `LAB_HOME` for runs and pair stores, `LAB_CACHE` for files that can be recomputed."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import platform
from datetime import datetime
from pathlib import Path

import platformdirs

NAME = "preference-lab"


def home() -> Path:
    """Return the folder of runs and pair stores: $LAB_HOME, or the user's data folder."""
    return full_path(os.environ.get("LAB_HOME") or platformdirs.user_data_path(NAME))


def cache() -> Path:
    """Return the folder of the embedded world and cached reference log-probs: $LAB_CACHE, or the user's cache folder."""
    return full_path(os.environ.get("LAB_CACHE") or platformdirs.user_cache_path(NAME))


def full_path(place: str | Path) -> Path:
    """Return an absolute path with a leading ~ replaced by the user's folder; it stays valid in another working folder."""
    try:
        return Path(place).expanduser().absolute()
    except RuntimeError:  # no user of that name
        return Path(place).absolute()


def in_home(place: str | Path) -> str:
    """Return the path of a file within the home, or "" for one elsewhere, so that a home may be copied or moved."""
    path = Path(place)
    own = next((folder for folder in (home(), home().resolve()) if path.is_relative_to(folder)), None)
    return "" if own is None else path.relative_to(own).as_posix()


def author() -> str:
    """Return the name under which this person's edits are logged: $LAB_AUTHOR, else that of `set_author`, else the login name."""
    with contextlib.suppress(OSError):
        return os.environ.get("LAB_AUTHOR", "").strip() or (home() / "author").read_text(encoding="utf-8").strip() or _login()
    return _login()


def set_author(name: str) -> None:
    """Log later edits of this person under a name, in every process with the same `LAB_HOME`."""
    home().mkdir(parents=True, exist_ok=True)
    (home() / "author").write_text(" ".join(name.split()), encoding="utf-8")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without an account for this user
        return "unknown"


def runs_dir() -> Path:
    """Return the folder that contains every run, or a link to it."""
    return home() / "runs"


def trash_dir() -> Path:
    """Return the folder of deleted runs, which can be restored until it is emptied."""
    return home() / "trash"


def experiments_dir() -> Path:
    """Return the folder of the experiments."""
    return home() / "experiments"


def new_run_dir(label: str) -> Path:
    """Return a run folder that does not exist yet, named by time and label."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(path for name in names if not (path := runs_dir() / name).exists())


def queue_dir() -> Path:
    """Return the folder of this machine's device queues. Machines that share a home have separate queues."""
    return home() / "queue" / (platform.node() or "here")


def list_run(folder: Path) -> None:
    """List a run in any folder among the others, by a link in `runs_dir()`."""
    folder = folder.resolve()
    if folder.parent == runs_dir().resolve():
        return
    runs_dir().mkdir(parents=True, exist_ok=True)
    link = runs_dir() / f"{folder.name}-{hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()}"
    if not link.is_symlink():
        link.symlink_to(folder, target_is_directory=True)


def run_folders() -> list[Path]:
    """Return the folders of all known runs, newest first. Links to deleted runs are left out."""
    made: dict[Path, float] = {}
    for path in runs_dir().iterdir() if runs_dir().exists() else ():
        with contextlib.suppress(OSError):  # no run, or deleted at this moment
            made[path] = (path / "run.json").stat().st_mtime
    return sorted(made, key=lambda path: made[path], reverse=True)
