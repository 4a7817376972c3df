"""Finding a run's folder by name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lab import home
from lab.errors import did_you_mean
from lab.store import RunError, read_manifest
from lab.store.folder import RUN_FILE

from .listing.labels import read_labels


def find_run(run: str | Path) -> Path:
    """Return a run's folder by path, by name, or by the only name that begins so.

    A name is the name of the run's folder, the name it was made with, or the one it was given later.

    Raises:
        RunError: If no run or several runs match.
    """
    if not isinstance(run, (str, os.PathLike)) or not str(run).strip():
        raise RunError(f"{run!r} is no run; give the folder or the name of one (`python -m lab runs` lists them).")
    folder, word = home.full_path(run), str(run)
    if (folder / RUN_FILE).exists() or len(Path(run).parts) != 1:
        return folder
    if (home.runs_dir() / word / RUN_FILE).exists():
        return home.runs_dir() / word
    names = {}
    for known in home.run_folders():
        with contextlib.suppress(RunError, OSError, KeyError):  # damaged, or being created or deleted
            own_names = (read_labels(known).name, read_manifest(known)["config"].get("name"))
            names[known] = {known.name, known.resolve().name, *filter(None, own_names)}
    exact = [known for known, own in names.items() if word in own]
    matches = exact or [known for known, own in names.items() if any(name.startswith(word) for name in own)]
    if len(matches) > 1:
        some = ", ".join(known.name for known in matches[:5]) + (", ..." if len(matches) > 5 else "")
        what = "have the name" if exact else "have a name that begins with"
        raise RunError(f"{len(matches)} runs {what} {word!r}: {some}; give the whole name of one's folder.")
    if not matches and not folder.exists():
        suggestion = did_you_mean(word, sorted({name for own in names.values() for name in own}))
        raise RunError(f"There is no run {word!r}; `python -m lab runs` lists them.{suggestion}")
    return matches[0] if matches else folder
