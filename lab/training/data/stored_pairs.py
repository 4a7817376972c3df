"""The pair set of a run in any version; a later version is read from its edits."""

from __future__ import annotations

from lab.pairs import Pair, PairStore

FEW = 1000
"""Edited pairs up to which they are read one by one, and not with the whole set."""


class StoredPairs:
    """Reads versions of a pair set. After the first, only edited pairs are read, unless some were added or restored.

    Args:
        store: The pair set.
    """

    def __init__(self, store: PairStore) -> None:
        self.store = store
        self._version = 0
        self._pairs: list[Pair] | None = None

    def newest(self) -> int:
        """Return the number of the set's newest version."""
        return self.store.version

    def at(self, version: int) -> list[Pair]:
        """Return the pairs of a version that are not dropped, in order. Raises PairsError if there is no such version."""
        edited = None if self._pairs is None else self._with_edits(self._pairs, version)
        self._pairs = self.store.all(version) if edited is None else edited
        self._version = version
        return list(self._pairs)

    def _with_edits(self, before: list[Pair], version: int) -> list[Pair] | None:
        """Return the pairs of a later version; None where the whole set has to be read."""
        if not self._version <= version <= self.store.version:
            return None
        versions = {edit.pair_id: edit.after for edit in self.store.log(self._version) if edit.number <= version}
        if len(versions) > FEW:
            return None
        edited = {id: self.store.get(id, number) for id, number in versions.items()}
        added = edited.keys() - {pair.id for pair in before}
        if any(not edited[id].dropped for id in added):  # their place in the order is not known here
            return None
        return [pair for pair in (edited.get(pair.id, pair) for pair in before) if not pair.dropped]
