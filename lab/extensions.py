"""Objectives of your own for every process: Python files in `LAB_HOME/objectives` are run when the lab is first used.

A class registered in a notebook lives in that notebook. The same lines in a file there are known to the dashboard and the
command line too. Nothing else is ever loaded from that folder, and nothing writes to it.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from lab import home

log = logging.getLogger(__name__)

PREFIX = "lab_extension_"
"""Of the names of the modules that such files become."""

_tried: dict[Path, float] = {}
"""Files that were run, and the time of their last change as it was then."""

_complaints: dict[Path, str] = {}
"""Files that failed when they were run last, and why."""


def folder() -> Path:
    """Where the files are looked for."""
    return home.home() / "objectives"


def load() -> list[str]:
    """Run the files that were not run yet, and failed ones that were changed since; return why each failed file failed.

    Files are run in the order of their names. A failed file is reported by every call until it is corrected or removed.
    """
    paths = sorted(folder().glob("*.py")) if folder().exists() else []
    for path in paths:
        changed = path.stat().st_mtime
        if path in _tried and (path not in _complaints or _tried[path] == changed):
            continue
        _tried[path] = changed
        _complaints.pop(path, None)
        try:
            spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except (Exception, SystemExit) as error:  # a user's own code can raise anything, and must not end the lab
            _complaints[path] = f"{path} was not loaded: {type(error).__name__}: {error}; correct the file."
            log.warning(_complaints[path])
    return [_complaints[path] for path in paths if path in _complaints]
