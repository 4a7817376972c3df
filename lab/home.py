"""Where the lab keeps things: `LAB_HOME` for what people made (runs, pair stores), `LAB_CACHE` for what can be made again."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import datetime
from pathlib import Path

import platformdirs

NAME = "preference-lab"


def home() -> Path:
    """Folder of runs and pair stores: $LAB_HOME, or the user's data folder."""
    return Path(os.environ.get("LAB_HOME") or platformdirs.user_data_path(NAME))


def cache() -> Path:
    """Folder of the embedded world and the reference log-probs: $LAB_CACHE, or the user's cache folder."""
    return Path(os.environ.get("LAB_CACHE") or platformdirs.user_cache_path(NAME))


def runs_dir() -> Path:
    """Folder that every run stands in, or is linked from."""
    return home() / "runs"


def new_run_dir(label: str) -> Path:
    """A run folder that does not exist yet, named by the time and a label."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(path for name in names if not (path := runs_dir() / name).exists())


def queue_dir() -> Path:
    """Folder of this machine's queues: a home may be shared by several machines, and each has devices of its own."""
    return home() / "queue" / (platform.node() or "here")


def list_run(folder: Path) -> None:
    """Make a run that stands elsewhere appear among the others, by a link in `runs_dir()`."""
    folder = folder.resolve()
    if folder.parent == runs_dir().resolve():
        return
    runs_dir().mkdir(parents=True, exist_ok=True)
    link = runs_dir() / f"{folder.name}-{hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()}"
    if not link.is_symlink():
        link.symlink_to(folder, target_is_directory=True)


def run_folders() -> list[Path]:
    """Folders of all known runs, newest first; links to runs that are gone are left out."""
    if not runs_dir().exists():
        return []
    found = [path for path in runs_dir().iterdir() if (path / "run.json").exists()]
    return sorted(found, key=lambda path: (path / "run.json").stat().st_mtime, reverse=True)
