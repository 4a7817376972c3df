"""Objectives of your own for every process: Python files in `LAB_HOME/objectives` are run when the lab is first used.

A class registered in a notebook lives in that notebook. The same lines in a file there are known to the dashboard and the
command line too. Nothing else is ever loaded from that folder, and nothing writes to it.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

from lab import home

log = logging.getLogger(__name__)

PREFIX = "lab_extension_"
"""Of the names of the modules that such files become."""

loaded: set[Path] = set()


def folder() -> Path:
    """Where the files are looked for."""
    return home.home() / "objectives"


def load() -> list[str]:
    """Run the files that were not run yet, in order of their names; returns one sentence for each that failed."""
    complaints = []
    for path in sorted(folder().glob("*.py")) if folder().exists() else []:
        if path in loaded:
            continue
        loaded.add(path)
        try:
            spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # pydantic looks up text annotations there
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[spec.name]
                raise
        except (Exception, SystemExit) as error:  # somebody's own code can raise anything, and must not take the lab down
            complaints.append(f"{path} was not loaded: {type(error).__name__}: {error}; mend it and start again.")
            log.warning(complaints[-1])
    return complaints
