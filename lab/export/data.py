"""The pairs that a run was trained on, at the version that was in use when its checkpoint was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.pairs import Pair, PairsError, PairStore

from .source import ExportError, Source

if TYPE_CHECKING:
    from lab.run.handle import Run


@dataclass(frozen=True)
class Data:
    """name: of the pair set.   version: its state (number of the latest edit).   origin: where it came from; no folder is named.
    pairs: those that were trained on, in their order.   held_out: how many more there were that only evaluation saw.
    too_long: how many more were left out because an answer did not fit."""

    name: str
    version: int
    origin: str
    pairs: list[Pair]
    held_out: int
    too_long: int = 0


def find_data(run: Run, source: Source) -> Data:
    """The data of a run. Raises ExportError where its pair store is gone, or where the run did not record what it held out."""
    try:
        store = PairStore(run.manifest["pairs_store"])
        pairs = store.all(source.pairs_version)
    except PairsError as error:
        raise ExportError(f"The run's pairs cannot be read: {error}") from error
    division = _division(run, source.pairs_version)
    held_out, too_long = ({pair.id for pair in pairs} & set(division[name]) for name in ("pairs", "too_long"))
    trained = [pair for pair in pairs if pair.id not in held_out | too_long]
    origin = Path(store.source).name if Path(store.source).is_absolute() else store.source
    name = run.manifest.get("pairs_name") or store.name
    return Data(name, source.pairs_version, origin, trained, len(held_out), len(too_long))


def _division(run: Run, version: int) -> dict[str, Any]:
    """What the run recorded of the pairs that it did not train on, at a version of its set: it is recorded when it changes."""
    there = [detail for detail in run.events("held_out")["detail"] if detail.get("version", version + 1) <= version]
    if not there:
        raise ExportError("The run did not record which pairs it trained on; train it anew with this version of the lab.")
    found: dict[str, Any] = max(there, key=lambda detail: detail["version"])
    return found
