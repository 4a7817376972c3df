"""Preference pairs by their source, the embedded world's among them. Nothing here needs torch or transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab import home
from lab.pairs import PairStore
from lab.pairs import open_pairs as open_stored_pairs

WORLD = "world"
Progress = Callable[[str, float], None]


def open_pairs(source: Any = WORLD, *, split: str = "train", progress: Progress | None = None) -> PairStore:
    """Preference pairs as a versioned, editable store.

    source: "world" (the embedded one), a JSONL, JSON, CSV or Parquet file, a hub id, a `datasets.Dataset`, a list of dicts,
    or a store's own .sqlite file. Opening the same content again finds the edits made before.
    progress(what, share) reports while the embedded world is built, the first time.
    Raises PairsError in one sentence that names the line.
    """
    if isinstance(source, PairStore):
        return source
    stores = home.home() / "pairs"
    if isinstance(source, str) and source == WORLD:
        from lab.world import ensure

        return open_stored_pairs(ensure(cache=home.cache(), progress=progress).pairs_path, home=stores)
    return open_stored_pairs(source, split=split, home=stores)
