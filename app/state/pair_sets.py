"""The pair sets that pages offer: the embedded world, and every store in `LAB_HOME`."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.state.jobs import Job
from lab import home
from lab.opening import open_pairs
from lab.pairs import PairStore
from lab.pairs.open_store import slug
from lab.progress import StageProgress

WORLD = "world"


@dataclass(frozen=True)
class OpenWorld:
    """The embedded world and the store of its pairs."""

    world: Any
    store: PairStore


_worlds: dict[tuple[Path, Path], Job[OpenWorld]] = {}
_lock = threading.Lock()


def world_job() -> Job[OpenWorld]:
    """Return the job that builds (the first time) and opens the embedded world; one job for all pages."""
    place = (home.home(), home.cache())
    with _lock:
        if place not in _worlds:
            _worlds[place] = Job(_open_world, everyone=True)
        return _worlds[place]


def opened_world() -> OpenWorld | None:
    """Return the embedded world if a page has opened it; build nothing."""
    job = _worlds.get((home.home(), home.cache()))
    return job.result if job and job.done.is_set() and not job.failed else None


def await_world(progress: StageProgress) -> None:
    """Wait until the embedded world is built. Raises RuntimeError if that failed; the next call tries again."""
    job = world_job()
    while not job.done.wait(0.2):
        progress(job.message, job.share)
    if job.error is not None:
        forget_failed_world()
        raise RuntimeError(job.error)


def forget_failed_world() -> None:
    """Let the next `world_job` try again, if the last one failed."""
    with _lock:
        for place in [place for place, job in _worlds.items() if job.failed]:
            del _worlds[place]


def _open_world(progress: StageProgress) -> OpenWorld:
    from lab.world import ensure

    world = ensure(cache=home.cache(), progress=progress)
    return OpenWorld(world, open_pairs(WORLD))


def stored_sets() -> dict[str, Path]:
    """Return the stores in `LAB_HOME` by file name, the latest first, without the embedded world's."""
    files = sorted((home.home() / "pairs").glob("*.sqlite"), key=lambda path: path.stat().st_mtime, reverse=True)
    world = opened_world()
    return {path.name: path for path in files if world is None or path.absolute() != world.store.path}


def label(key: str) -> str:
    """Return the display name of a pair set: its file name without the content hash."""
    if key == WORLD:
        return "world (embedded)"
    stem = Path(key).stem
    name = re.sub(r"-[0-9a-f]{12}$", "", stem)
    return f"{name} ({stem[len(name) + 1 :][:4]})" if name != stem else name


def new_file(name: str) -> Path:
    """Return a file that does not exist yet for a new set of this name."""
    return home.home() / "pairs" / f"{slug(name)}-{uuid4().hex[:12]}.sqlite"
