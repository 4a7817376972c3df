"""Pair stores made from the embedded world's pairs, whose runs are judged by the world's oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lab import home
from lab.pairs import Pair, PairStore, content_hash, pairs_from_rows


def world_store(change: Callable[[list[Pair]], Iterable[Pair]], name: str) -> PairStore:
    """Open a store of changed pairs of the embedded world; the first time, create it.

    Args:
        change: Makes the pairs of the store from those of the world, which come as they were built, without later edits.
        name: Name of the set.

    Raises:
        PairsError: The store cannot be written.
    """
    from lab.world import ensure

    world = ensure(cache=home.cache())
    pairs = list(change(list(pairs_from_rows(world.pairs()))))
    path = home.home() / "pairs" / f"{name}-{content_hash(pairs)}.sqlite"
    return PairStore.create(path, pairs, name=name, source=str(world.pairs_path))
