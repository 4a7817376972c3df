"""Merging of two edits of one pair: parts that only one person changed are put together, the others are chosen by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Draft(Generic[T]):
    """Parts of a pair as a person changed them, not saved because somebody else changed the pair meanwhile.

    Attributes:
        base: The parts as the person's edit began, by name: texts of sides and turns, or tables of turns.
        mine: The parts as the person changed them.
    """

    base: Mapping[str, T]
    mine: Mapping[str, T]

    def changed(self, name: str) -> bool:
        """Return whether the person changed a part."""
        return name in self.mine and self.mine[name] != self.base.get(name)

    def merged(self, present: Mapping[str, T]) -> dict[str, T]:
        """Return the present parts with those in their place that the person changed."""
        return {name: self.mine[name] if self.changed(name) else part for name, part in present.items()}

    def conflicts(self, present: Mapping[str, T]) -> list[str]:
        """Return the parts that both have changed, to different texts."""
        return [
            name for name, part in present.items() if self.changed(name) and part != self.base.get(name) and part != self.mine[name]
        ]

    def lost(self, present: Mapping[str, T]) -> dict[str, T]:
        """Return the parts that the person changed and that the pair does not have any more, such as removed turns."""
        return {name: part for name, part in self.mine.items() if name not in present and self.changed(name)}
