"""The pair sets that pages offer: the embedded world, every store in `LAB_HOME`, and sets of databases that are listed there."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.state.jobs import Job
from lab import home
from lab.opening import open_pairs
from lab.pairs import PairsError, PairStore, is_url
from lab.pairs.addresses import SUFFIX, address_file, known_addresses, refuse_password, remember_address
from lab.pairs.open_store import slug
from lab.progress import StageProgress

WORLD = "world"
AWAY_SECONDS = 15.0
"""Time for which the failure to reach a database is remembered, so that a page does not wait for it again and again."""


@dataclass(frozen=True)
class OpenWorld:
    """The embedded world and the store of its pairs."""

    world: Any
    store: PairStore


_worlds: dict[tuple[Path, Path], Job[OpenWorld]] = {}
_databases: dict[str, PairStore] = {}
_away: dict[str, tuple[float, str]] = {}
"""(time, reason) of the last failure to reach a database, by address."""
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


def stored_sets() -> dict[str, str]:
    """Return the locations of the sets that `LAB_HOME` lists by their file's name, the latest first, without the embedded world's.

    A location is an SQLite file, or the address of a set in a database that was opened by it before.
    """
    folder = home.home() / "pairs"
    files = {path: str(path) for path in folder.glob("*.sqlite")} | known_addresses(folder)
    world = opened_world()
    latest_first = sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
    return {path.name: files[path] for path in latest_first if world is None or path.absolute() != world.store.path}


def key(location: str) -> str:
    """Return the name under which `stored_sets` lists a location."""
    return address_file(Path(), location).name if is_url(location) else Path(location).name


def open_set(location: str) -> PairStore:
    """Open a stored set. One of a database stays open for all pages; one that is away is tried again after some seconds.

    Raises:
        PairsError: There is no such set, or its database is away.
    """
    if not is_url(location):
        return PairStore(location)
    with _lock:
        at, failure = _away.get(location, (0.0, ""))
        if location in _databases:
            return _databases[location]
    if failure and time.monotonic() - at < AWAY_SECONDS:
        raise PairsError(failure)
    try:
        store = PairStore(location)
    except PairsError as error:
        _away[location] = (time.monotonic(), str(error))
        raise
    with _lock:
        _away.pop(location, None)
        return _databases.setdefault(location, store)


def check_address(address: str) -> None:
    """Raise PairsError for a text that is no address of a database, or one with a password."""
    refuse_password(address)
    if not is_url(address):
        raise PairsError("This is no address of a database; give postgresql://user@host/database?set=name.")


def list_database(address: str) -> str:
    """Open a set by the address of its database and list it in `LAB_HOME`; return its key.

    Raises:
        PairsError: The address holds a password or is none, there is no such set, or its database is away.
    """
    check_address(address)
    _away.pop(address.strip(), None)
    store = open_set(address.strip())
    remember_address(home.home() / "pairs", store.location)
    return key(store.location)


def unlist_database(location: str) -> None:
    """Take a set of a database off the list; the set itself stays."""
    with _lock:
        _databases.pop(location, None)
    address_file(home.home() / "pairs", location).unlink(missing_ok=True)


def label(key: str) -> str:
    """Return the display name of a pair set: its file name without the content hash."""
    if key == WORLD:
        return "world (embedded)"
    stem, kind = Path(key).stem, Path(key).suffix
    name = re.sub(r"-[0-9a-f]{12}$", "", stem)
    more = [*(["database"] if kind == SUFFIX else []), *([stem[len(name) + 1 :][:4]] if name != stem else [])]
    return f"{name} ({', '.join(more)})" if more else name


def new_file(name: str) -> Path:
    """Return a file that does not exist yet for a new set of this name."""
    return home.home() / "pairs" / f"{slug(name)}-{uuid4().hex[:12]}.sqlite"
