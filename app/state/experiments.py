"""Handles to experiments that all pages share, so that a drawing reads what has changed and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from lab.experiments import Experiment, ExperimentFolder, experiment_folders, find_experiment
from lab.store import RunError

_opened: dict[Path, Experiment] = {}


def opened(name: str) -> Experiment:
    """Return the handle to an experiment. Raises RunError if there is none of this name, or it is damaged."""
    return _handle(find_experiment(name))


def all_opened() -> tuple[list[Experiment], Mapping[str, str]]:
    """Return the handles of all experiments, the latest declared first, and the reason of each that cannot be read, by its name."""
    handles, unreadable = [], {}
    for folder in experiment_folders():
        try:
            handles.append(_handle(folder))
        except (RunError, OSError) as error:  # damaged, or deleted at this moment
            unreadable[folder.name] = str(error)
    return handles, unreadable


def _handle(folder: ExperimentFolder) -> Experiment:
    """Return the handle of a folder; one that can no longer be read is forgotten."""
    if folder.path not in _opened:
        _opened[folder.path] = Experiment(folder)
    handle = _opened[folder.path]
    try:
        handle.runs  # noqa: B018 - reads the declaration again if it was changed
    except (RunError, OSError, ValueError):
        with contextlib.suppress(KeyError):
            del _opened[folder.path]
        raise
    return handle
