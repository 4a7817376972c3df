"""Which runs are twins: a small file, the same in the folder of each, so that whoever opens one finds the others.

Paths alone would not do: people move their data folder, and another run may come to stand where one was deleted. So the file has
an id too, and a twin that is not where it was is looked for beside its brother.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

from .durable import write_json
from .folder import RUN_FILE, RunError

FILE_NAME = "twins.json"


def write_twins(folders: Sequence[Path]) -> None:
    """Let the runs in some folders know each other; the first may have twins already, which then are twins of them all.

    Raises OSError where the disk refuses, RunError where a file of twins is damaged.
    """
    known = _read(folders[0])
    everyone = [folders[0].resolve(), *read_twins(folders[0]), *(folder.resolve() for folder in folders[1:])]
    content = {"id": known[0] if known else uuid.uuid4().hex, "runs": [str(folder) for folder in everyone]}
    for folder in everyone:
        write_json(folder / FILE_NAME, content)


def read_twins(folder: Path) -> list[Path]:
    """Folders of the twins of the run in a folder, in the order they were made; those that are gone are left out.

    Raises RunError where the file is damaged.
    """
    known = _read(folder)
    if known is None:
        return []
    own, (identity, runs) = folder.resolve(), known
    found = []
    for run in runs:
        there = (place for place in (run, own.parent / run.name) if _is(place, identity))
        twin = next(there, None)
        if twin is not None and twin.resolve() != own:
            found.append(twin)
    return found


def _is(folder: Path, identity: str) -> bool:
    known = _read(folder)
    return (folder / RUN_FILE).exists() and known is not None and known[0] == identity


def _read(folder: Path) -> tuple[str, list[Path]] | None:
    """Id and folders in the file of a run, or None where it has none."""
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return str(content["id"]), [Path(run) for run in content["runs"]]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{folder / FILE_NAME} is damaged ({error}); delete the file, and the run has no twins.") from None
