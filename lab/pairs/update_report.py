"""Differences between two states of a set, and the result of bringing one up to date with a source or another set."""

from __future__ import annotations

from dataclasses import dataclass, field

from .pair import Pair

MOST_NAMED = 10
"""Pairs that are no longer in the source and that a report names by the beginning of their prompt."""


@dataclass(frozen=True)
class Difference:
    """Differences between two states of a set, each list in the order of the set.

    Attributes:
        added: Pairs that the first state does not have yet.
        dropped: Pairs that only the first state contains, as they were there.
        restored: Pairs that were dropped in the first state, as they are in the second.
        changed: (before, after) of pairs in both states.
    """

    added: list[Pair] = field(default_factory=list)
    dropped: list[Pair] = field(default_factory=list)
    restored: list[Pair] = field(default_factory=list)
    changed: list[tuple[Pair, Pair]] = field(default_factory=list)


@dataclass(frozen=True)
class SourceConflict:
    """A pair that differs here and in another source, and in both from the common base; what is here stays."""

    mine: Pair
    theirs: Pair
    base: Pair


@dataclass
class UpdateReport:
    """Result of taking pairs from another source.

    Attributes:
        added: Ids of new pairs.
        updated: Ids of pairs that took the source's content, since nobody had edited them here.
        unchanged: Number of pairs that stay as they are: equal, or edited here only.
        conflicts: Pairs edited on both sides; what is here stays.
        vanished: Ids of imported pairs that the source no longer has; they stay unless the caller drops them.
        vanished_prompts: Beginnings of the prompts of the first of them.
        vanished_edited: Number of them that had been edited here.
        dropped: Whether the vanished pairs were dropped.
    """

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: int = 0
    conflicts: list[SourceConflict] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    vanished_prompts: list[str] = field(default_factory=list)
    vanished_edited: int = 0
    dropped: bool = False

    def changed(self) -> bool:
        """Whether the source differs from the set in anything."""
        return bool(self.added or self.updated or self.conflicts or self.vanished)

    def summary(self) -> str:
        """Return the numbers in words: "3 added, 0 updated, 40 unchanged, 2 no longer in the source (dropped)"."""
        parts = [f"{len(self.added):,} added", f"{len(self.updated):,} updated", f"{self.unchanged:,} unchanged"]
        if self.conflicts:
            parts.append(f"{len(self.conflicts):,} edited here and changed in the source (what is here stays)")
        if self.vanished:
            edited = f", {self.vanished_edited:,} of them edited here" if self.vanished_edited else ""
            parts.append(f"{len(self.vanished):,} no longer in the source ({'dropped' if self.dropped else 'kept'}{edited})")
        return ", ".join(parts)

    def details(self) -> list[str]:
        """Return lines that name the pairs no longer in the source, and say how a changed text is counted."""
        lines = [f"No longer in the source: {prompt}" for prompt in self.vanished_prompts]
        if more := len(self.vanished) - len(lines):
            lines.append(f"No longer in the source: {more:,} more")
        if self.added and self.vanished:
            lines.append("A row whose text has changed counts as one added and one no longer in the source.")
        return lines
