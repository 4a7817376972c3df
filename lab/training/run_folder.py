"""Create the folder of a run with its manifest."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import home
from lab.run.config import TrainConfig
from lab.store import RunError, durable
from lab.store.folder import PAIRS_BESIDE, RUN_FILE, RUN_FORMAT
from lab.training.setup.versions import versions


def create_run(folder: Path, config: TrainConfig, **manifest: Any) -> None:
    """Create a run's folder with its manifest.

    Args:
        folder: The folder; its parents are created too.
        config: Settings of the run.
        **manifest: Further entries of the manifest.

    Raises:
        RunError: The folder already contains a run, which stays unchanged, or cannot be written.
    """
    _make_folder(folder)
    content: dict[str, Any] = {
        "format": RUN_FORMAT,
        "config": config.model_dump(mode="json"),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions(),
        **manifest,
    }
    if beside := _beside(folder, str(manifest.get("pairs_store", ""))):
        content[PAIRS_BESIDE] = beside
    draft = folder / f".{RUN_FILE}.{os.getpid()}"
    try:
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        (folder / RUN_FILE).hardlink_to(draft)  # unlike a rename it fails where another process was faster
    except FileExistsError:
        raise _exists_error(folder) from None
    except OSError as error:
        raise _create_error(folder, error) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _beside(folder: Path, store: str) -> str:
    """Return the path from a run's folder to its pairs, if both are in the home, so that it may be copied or moved; else ""."""
    within = home.in_home(folder.absolute()) and home.in_home(store)
    return os.path.relpath(store, folder.absolute()) if within else ""


def check_new_folder(folder: Path) -> None:
    """Raise the RunError that `create_run` would raise for this folder; leaves nothing behind."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    draft = folder / f".{RUN_FILE}.{os.getpid()}"
    try:
        _make_folder(folder)
        draft.write_text("{}", encoding="utf-8")
    except OSError as error:
        raise _create_error(folder, error) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        for place in missing:
            with contextlib.suppress(OSError):
                place.rmdir()


def _make_folder(folder: Path) -> None:
    """Create a folder; raise RunError where it contains a run or cannot be created."""
    if (folder / RUN_FILE).exists():
        raise _exists_error(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"The folder {folder} cannot be created ({error.strerror}); give another run_dir.") from None


def _exists_error(folder: Path) -> RunError:
    return RunError(f"There is a run in {folder} already; continue it with resume, or give another run_dir.")


def _create_error(folder: Path, error: OSError) -> RunError:
    return RunError(f"The run cannot be created in {folder}. {durable.disk_problem(error) or error}")
