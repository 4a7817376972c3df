"""Links between twin runs: the same small file in the folder of each, with an id and the folders of all.

The id detects that another run took the place of a deleted one. A twin is searched beside this run first, and then at its path,
because the whole data folder may have been copied or moved.
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
    """Link the runs in some folders as twins. If the first has twins already, those become twins of all.

    Raises:
        OSError: A file cannot be written.
        RunError: A file of twins is damaged.
    """
    known = _read(folders[0])
    twins = [folders[0].resolve(), *read_twins(folders[0]), *(folder.resolve() for folder in folders[1:])]
    content = {"id": known[0] if known else uuid.uuid4().hex, "runs": [str(folder) for folder in twins]}
    for folder in twins:
        write_json(folder / FILE_NAME, content)


def read_twins(folder: Path) -> list[Path]:
    """Return the folders of the twins of the run in a folder, in order of creation, without deleted ones.

    Raises:
        RunError: The file is damaged.
    """
    known = _read(folder)
    if known is None:
        return []
    own, (identity, runs) = folder.resolve(), known
    twins = []
    for run in runs:
        twin = next((place for place in (own.parent / run.name, run) if _is(place, identity)), None)
        if twin is not None and twin.resolve() != own:
            twins.append(twin)
    return twins


def _is(folder: Path, identity: str) -> bool:
    known = _read(folder)
    return (folder / RUN_FILE).exists() and known is not None and known[0] == identity


def _read(folder: Path) -> tuple[str, list[Path]] | None:
    """Return the id and the folders in the file of a run, or None if it has none."""
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return str(content["id"]), [Path(run) for run in content["runs"]]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{folder / FILE_NAME} is damaged ({error}); delete the file to open the run without its twins.") from None
