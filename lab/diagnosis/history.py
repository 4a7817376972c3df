"""What the diagnosis has to know of a run beside its numbers: its changes in mid-run with old and new values, and its twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.store.changes import read_changes
from lab.store.folder import RunError, read_manifest
from lab.store.twin_links import read_twins

LEARNING_RATE = "learning_rate"


@dataclass(frozen=True)
class MadeChange:
    """What was changed when `after` steps were done.

    settings: value before and after by path ("learning_rate", "beta", "base.beta").   pairs_version: the version of the pair set
    that is trained on from there, or None.   counts: how many pairs it edited, dropped and added, where that was recorded.
    """

    after: int
    settings: Mapping[str, tuple[Any, Any]]
    pairs_version: int | None
    counts: Mapping[str, int]

    @property
    def parameters(self) -> bool:
        """Whether it changed parameters of the objective."""
        return any(path != LEARNING_RATE for path in self.settings)

    @property
    def message(self) -> str:
        """What was changed, as a clause."""
        parts = [f"{path} was changed from {value_words(old)} to {value_words(new)}" for path, (old, new) in self.settings.items()]
        if self.pairs_version is not None:
            counted = ", ".join(f"{number:,} {what}" for what, number in self.counts.items() if number)
            parts.append(f"edits of the pairs were taken (version {self.pairs_version}{f': {counted}' if counted else ''})")
        return " and ".join(parts)


def made_changes(folder: Path, config: Mapping[str, Any], edits: Mapping[int, Mapping[str, Any]]) -> list[MadeChange]:
    """The changes of the run in a folder, oldest first; those made at one step are one. Empty where their file is damaged.

    config: the settings the run was made with, as plain values.   edits: details of the events that tell of a version.
    """
    try:
        changes = read_changes(folder)
    except RunError:
        return []
    present = {**config, "objective": copied(config.get("objective") or {})}
    made: list[MadeChange] = []
    for change in changes:
        settings: dict[str, tuple[Any, Any]] = {}
        for path, value in change.settings.items():
            place = present if path in present else present["objective"]
            settings[path] = (_get(place, path), value)
            put(place, path, value)
        detail = edits.get(change.pairs_version, {}) if change.pairs_version is not None else {}
        counts = {what: int(detail[what]) for what in ("edited", "dropped", "added") if what in detail}
        if made and made[-1].after == change.after:
            last = made.pop()
            settings = {**last.settings, **{path: (last.settings.get(path, pair)[0], pair[1]) for path, pair in settings.items()}}
            made.append(MadeChange(change.after, settings, change.pairs_version or last.pairs_version, counts or last.counts))
        else:
            made.append(MadeChange(change.after, settings, change.pairs_version, counts))
    return made


def twin_objectives(folder: Path) -> frozenset[str]:
    """Names of the objectives that the twins of the run in a folder train with, those inside others too."""
    try:
        configs = [read_manifest(twin)["config"] for twin in read_twins(folder)]
    except (RunError, OSError, KeyError):
        return frozenset()
    names = set()
    for config in configs:
        objective = config.get("objective") or {}
        inner = objective.get("base")
        names |= {str(objective.get("name", "")), str(inner.get("name", "")) if isinstance(inner, Mapping) else str(inner or "")}
    return frozenset(names - {""})


def value_words(value: Any) -> str:
    """A setting's value in a sentence, with all its digits."""
    if value is None:
        return "its default"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def copied(value: Any) -> Any:
    """A copy of nested mappings that can be changed."""
    return {key: copied(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def put(place: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a path ("base.beta") of nested mappings."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = place.get(parent)
        place[parent] = inner if isinstance(inner, dict) else {"name": inner} if isinstance(inner, str) else {}
        place = place[parent]
    place[last] = value


def _get(place: Mapping[str, Any], path: str) -> Any:
    parts: Sequence[str] = path.split(".")
    value: Any = place
    for part in parts:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
