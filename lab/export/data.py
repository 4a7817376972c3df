"""The pairs that a run was trained on, at the version that was in use when its checkpoint was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.pairs import Pair, PairsError, PairStore

from .source import ExportError, Source

if TYPE_CHECKING:
    from lab.run import Run


@dataclass(frozen=True)
class Data:
    """name: of the pair set.   version: its state (number of the latest edit).   origin: where it came from; no folder is named.
    pairs: those that were trained on, in their order.   held_out: how many more there were that only evaluation saw."""

    name: str
    version: int
    origin: str
    pairs: list[Pair]
    held_out: int


def find_data(run: Run, source: Source) -> Data:
    """The data of a run. Raises ExportError where its pair store is gone."""
    try:
        store = PairStore(run.about["pairs_store"])
        pairs = store.all(source.pairs_version)
    except PairsError as error:
        raise ExportError(f"The run's pairs cannot be read: {error}") from error
    events = run.events("held_out")
    looks = [set(detail["pairs"]) for step, detail in zip(events["step"], events["detail"]) if step <= source.step]
    held_out = looks[-1] if looks else set()
    trained = [pair for pair in pairs if pair.id not in held_out]
    origin = Path(store.source).name if Path(store.source).is_absolute() else store.source
    name = run.about.get("pairs_name") or store.name
    return Data(name, source.pairs_version, origin, trained, len(pairs) - len(trained))
