"""A run's folder: what lies in it, and how one knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
ENDED = ("finished", "stopped", "failed", "dead")
"""States in which nothing trains any more."""


class RunError(ValueError):
    """A run folder that cannot be opened or used, in one sentence."""


def read_about(folder: Path) -> dict[str, Any]:
    """What was written down when the run in a folder was made. Raises RunError where there is none."""
    try:
        return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{folder / RUN_FILE} is damaged ({error}); restore the file, or delete the folder.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} holds no run ({RUN_FILE} is missing); `python -m lab runs` lists the ones there are.") from None


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of the run in a folder, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("step-*"))
