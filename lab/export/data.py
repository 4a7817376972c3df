"""The pairs that a run was trained on, in the version in use at a checkpoint."""

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
    """A run's pairs.

    Attributes:
        name: Name of the pair set.
        version: Number of its latest edit.
        origin: Its source, without the path of a folder.
        pairs: The pairs that were trained on, in their order.
        held_out: Number of further pairs that were held out.
        too_long: Number of further pairs that were left out because an answer was too long.
    """

    name: str
    version: int
    origin: str
    pairs: list[Pair]
    held_out: int
    too_long: int = 0


def find_data(run: Run, source: Source) -> Data:
    """Return the data of a run. Raises ExportError if its pair store is missing, or its held-out pairs are not recorded."""
    try:
        store = PairStore(run.manifest["pairs_store"])
        pairs = store.all(source.pairs_version)
    except PairsError as error:
        raise ExportError(f"The run's pairs cannot be read: {error}") from error
    split = _split(run, source.pairs_version)
    ids = {pair.id for pair in pairs}
    held_out, too_long, refused = (ids & set(split.get(name, ())) for name in ("pairs", "too_long", "refused"))
    trained = [pair for pair in pairs if pair.id not in held_out | too_long | refused]
    origin = Path(store.source).name if Path(store.source).is_absolute() else store.source
    name = run.manifest.get("pairs_name") or store.name
    return Data(name, source.pairs_version, origin, trained, len(held_out), len(too_long))


def _split(run: Run, version: int) -> dict[str, Any]:
    """The latest recorded ids of pairs that the run did not train on, at a version of its set; recorded when they change."""
    splits = [detail for detail in run.events("held_out")["detail"] if detail.get("version", version + 1) <= version]
    if not splits:
        raise ExportError("The run did not record which pairs it trained on; train it again with this version of the lab.")
    latest: dict[str, Any] = max(splits, key=lambda detail: detail["version"])
    return latest
