"""Pair stores made from the embedded world's pairs, whose runs are judged by the world's oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from lab import home
from lab.pairs import Pair, PairStore, content_hash, pairs_from_rows


def world_store(change: Callable[[list[Pair]], Iterable[Pair]], name: str, *, fresh: bool = False) -> PairStore:
    """Open a store of changed pairs of the embedded world; the first time, create it.

    Args:
        change: Makes the pairs of the store from those of the world, which come as they were built, without later edits.
        name: Name of the set.
        fresh: Create a further store, without edits, even if there is one with these pairs.

    Raises:
        PairsError: The store cannot be written.
    """
    from lab.world import open_world

    world = open_world()
    pairs = list(change(list(pairs_from_rows(world.pairs()))))
    stem = f"{name}-{content_hash(pairs)}"
    paths = (home.home() / "pairs" / f"{stem}{f'-{number}' if number else ''}.sqlite" for number in count())
    path = next(path for path in paths if not (fresh and path.exists()))
    return PairStore.create(path, pairs, name=name, source=str(world.pairs_path))
