"""Opening preference pairs by their source, including those of the embedded world, without importing torch."""

from __future__ import annotations

from typing import Any

from lab import home
from lab.pairs import PairStore
from lab.pairs import open_pairs as open_stored_pairs
from lab.progress import StageProgress

WORLD = "world"


def open_pairs(source: Any = WORLD, *, split: str = "train", progress: StageProgress | None = None) -> PairStore:
    """Open preference pairs as a versioned, editable store.

    Opening the same content again returns the same store, with the edits made before.

    Args:
        source: "world" for the pairs of the embedded world; a JSONL, JSON, CSV or Parquet file; a hub id; a `datasets.Dataset`; a
            list of dicts in TRL's preference formats; or a store's own .sqlite file.
        split: Split of a hub data set.
        progress: Called as progress(stage, share) while the embedded world is built, the first time.

    Raises:
        PairsError: If the source cannot be read as pairs; the message names the line.
    """
    if isinstance(source, PairStore):
        return source
    stores = home.home() / "pairs"
    if isinstance(source, str) and source == WORLD:
        from lab.world import ensure

        return open_stored_pairs(ensure(cache=home.cache(), progress=progress).pairs_path, home=stores)
    return open_stored_pairs(source, split=split, home=stores)
