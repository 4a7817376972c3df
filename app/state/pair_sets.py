"""The pair sets that pages offer: the embedded worlds, every store in `LAB_HOME`, and sets of databases that are listed there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import streamlit as st

from app.state.jobs import Job
from lab import home
from lab.opening import open_pairs
from lab.pairs import KnownSet, PairsError, PairStore, is_url, known_sets
from lab.pairs.addresses import address_file, refuse_password, remember_address
from lab.pairs.open_store import slug
from lab.progress import StageProgress
from lab.world import KINDS, World, WorldSpec, folder_name, is_world_name, open_world, pairs_file

WORLD = "world"
WORLDS = tuple(KINDS)
"""Names of the embedded worlds that pages list; those of other seeds are given by their names, as "world:3"."""
LABELS = "pair_sets.labels"
"""In the session: labels of the listed sets by their key, as `stored_sets` read them last, so that they hold for a drawing."""
LONGEST_SOURCE = 40
"""Characters of a source in a label, counted from its end."""
AWAY_SECONDS = 15.0
"""Time for which the failure to reach a database is remembered, so that a page does not wait for it again and again."""


@dataclass(frozen=True)
class OpenWorld:
    """An embedded world and the store of its pairs."""

    world: World
    store: PairStore


_worlds: dict[tuple[Path, Path, str], Job[OpenWorld]] = {}
_databases: dict[str, PairStore] = {}
_away: dict[str, tuple[float, str]] = {}
"""(time, reason) of the last failure to reach a database, by address."""
_latest_labels: dict[str, str] = {}
"""Labels by key as any session read them last, for a set that the session has not listed itself."""
_lock = threading.Lock()


def world_job(name: str = WORLD) -> Job[OpenWorld]:
    """Return the job that builds (the first time) and opens the embedded world of a name; one job for all pages."""
    place = (home.home(), home.cache(), name)
    with _lock:
        if place not in _worlds:
            _worlds[place] = Job(lambda progress: _open_world(name, progress), everyone=True)
        return _worlds[place]


def opened_world(name: str = WORLD) -> OpenWorld | None:
    """Return the embedded world of a name if a page has opened it; build nothing."""
    job = _worlds.get((home.home(), home.cache(), name))
    return job.result if job and job.done.is_set() and not job.failed else None


def await_worlds(sources: Sequence[str], progress: StageProgress) -> None:
    """Wait until the embedded worlds among some pairs and models are built.

    Raises:
        RuntimeError: That failed; the next call tries again.
    """
    for name in dict.fromkeys(filter(is_world_name, sources)):
        job = world_job(name)
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


def _open_world(name: str, progress: StageProgress) -> OpenWorld:
    return OpenWorld(open_world(name, progress), open_pairs(name))


def stored_sets() -> dict[str, str]:
    """Return the locations of the sets that `LAB_HOME` lists by their file's name, the latest first, without `WORLDS`.

    A location is an SQLite file, or the address of a set in a database that was opened by it before.
    """
    worlds = set(map(_source_of_world, WORLDS))
    sets = [known for known in known_sets(home.home() / "pairs") if known.source not in worlds or known.name not in WORLDS]
    st.session_state[LABELS] = drawn = labels(sets)
    _latest_labels.update(drawn)
    return {known.file.name: known.location for known in sets}


def _source_of_world(name: str) -> str:
    """Return the file of a world's pairs, whether or not it is built."""
    spec, opened = WorldSpec.named(name), opened_world(name)
    return str(opened.world.pairs_path if opened else home.cache() / folder_name(spec) / pairs_file(spec))


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
    """Return the display name of a pair set that `stored_sets` lists, or of an embedded world."""
    if is_world_name(key):
        return f"{key} (embedded)"
    drawn: dict[str, str] = st.session_state.get(LABELS, {})
    return drawn.get(key) or _latest_labels.get(key) or Path(key).stem


def labels(sets: Sequence[KnownSet]) -> dict[str, str]:
    """Return the display names of sets by the name of their file: name, number of pairs, date of the last change.

    Equal ones are told apart by their source, and sets of one source by their file.
    """
    ways: tuple[Callable[[KnownSet], list[str]], ...] = (
        _facts,
        lambda known: [*_facts(known), *([f"from {_end_of(known.source)}"] if known.source else [])],
        lambda known: [*_facts(known), f"file {known.file.name}"],
    )
    result: dict[str, str] = {}
    left = list(sets)
    for way in ways:
        texts = {known.file.name: f"{known.name} ({', '.join(way(known))})" for known in left}
        times = Counter([*texts.values(), *result.values()])
        result |= {name: text for name, text in texts.items() if times[text] == 1 or way is ways[-1]}
        left = [known for known in left if known.file.name not in result]
    return result


def _facts(known: KnownSet) -> list[str]:
    moment = datetime.fromtimestamp(known.changed)
    day = f"{moment:%-d %b}" if moment.year == datetime.now().year else f"{moment:%Y-%m-%d}"
    count = [] if known.pairs is None else [f"{known.pairs:,} {'pair' if known.pairs == 1 else 'pairs'}"]
    return [*(["database"] if is_url(known.location) else count), day]


def _end_of(source: str) -> str:
    return source if len(source) <= LONGEST_SOURCE else f"...{source[-LONGEST_SOURCE:]}"


def resend_label(widget: str) -> None:
    """Give the browser the present label of a chosen set before its selectbox is drawn.

    Streamlit's browser side sends the label back, not the key, and a label that no longer exists, since the number of pairs has
    changed, would reset the choice.

    Args:
        widget: Key of the selectbox, whose options are keys of sets and which has no other default than the first option or none.
    """
    chosen, at = st.session_state.get(widget), f"{widget}.label"
    text = label(chosen) if isinstance(chosen, str) else None
    if text != st.session_state.get(at) and at in st.session_state and text is not None:
        st.session_state[widget] = chosen
    st.session_state[at] = text


def new_file(name: str) -> Path:
    """Return a file that does not exist yet for a new set of this name."""
    return home.home() / "pairs" / f"{slug(name)}-{uuid4().hex[:12]}.sqlite"
