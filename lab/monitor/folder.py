"""A run's folder: what lies in it, and how one knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
PROCESS_LOG = "process.log"
"""What a training process of its own wrote to its standard output and error."""
BEGINS = "--- "
"""How a line of that log begins where another process has taken over."""
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


def last_words(folder: Path) -> str | None:
    """The last line that the latest training process of its own wrote before it ended, or None. Reads the log's end alone."""
    try:
        with (folder / PROCESS_LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return None
    return lines[-1].removeprefix("error: ") if lines and not lines[-1].startswith(BEGINS) else None
