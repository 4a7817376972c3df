"""Custom objectives for every process: Python files in `LAB_HOME/objectives` are run when the lab is first used.

An objective registered in a notebook exists in that notebook alone. Defined in a file of that folder, it is also available in the
dashboard and on the command line. The lab loads nothing else from the folder and never writes to it.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from pathlib import Path

from lab import home

log = logging.getLogger(__name__)

PREFIX = "lab_extension_"
"""Prefix of the modules' names."""

_tried: dict[Path, float] = {}
"""Files that were run, and the time of their last change as it was then."""

_complaints: dict[Path, str] = {}
"""Files that failed when they were run last, and why."""

_thread = threading.local()
"""`loads` is True in a thread that is running a file, which may use a name of `lab` that calls `load` again."""


def folder() -> Path:
    """Return the folder of the files."""
    return home.home() / "objectives"


def load() -> list[str]:
    """Run the files that were not run yet, and failed ones that were changed since; return why each failed file failed.

    Files are run in the order of their names, without hidden ones. A failed file is reported by every call until it is corrected or
    removed. A call by one of the files runs no other file.
    """
    paths = sorted(path for path in folder().glob("[!.]*.py") if path.exists()) if folder().exists() else []
    for path in () if getattr(_thread, "loads", False) else paths:
        try:
            _thread.loads = True
            changed = path.stat().st_mtime
            if path in _tried and (path not in _complaints or _tried[path] == changed):
                continue
            _tried[path] = changed
            _complaints.pop(path, None)
            spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # pydantic looks up text annotations there
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[spec.name]
                raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's own code can raise anything, and must not end the lab
            message = f"{type(error).__name__}: {error}".removesuffix(".").removesuffix(": ")
            _complaints[path] = f"{path} was not loaded: {message}; correct the file."
            log.warning(_complaints[path])
        finally:
            _thread.loads = False
    return [_complaints[path] for path in paths if path in _complaints]
