"""Custom objectives for every process: Python files in `LAB_HOME/objectives` are run when the lab is first used.

An objective registered in a notebook exists in that notebook alone. Defined in a file of that folder, it is also available in the
dashboard and on the command line. The lab loads nothing else from the folder and never writes to it.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

from lab import home

log = logging.getLogger(__name__)

PREFIX = "lab_extension_"
"""Prefix of the modules' names."""

loaded: set[Path] = set()


def folder() -> Path:
    """Return the folder of the files."""
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
