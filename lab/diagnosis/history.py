"""History of a run for the checks: changes made while it ran, with old and new values, and the objectives of its twins."""

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
    """A change made during a run, with old and new values.

    Attributes:
        after: Optimizer steps done when it was made.
        settings: (old, new) value by path ("learning_rate", "beta", "base.beta").
        pairs_version: Version of the pairs trained on since then, or None if it stayed the same.
        counts: Number of pairs edited, dropped and added, if recorded.
    """

    after: int
    settings: Mapping[str, tuple[Any, Any]]
    pairs_version: int | None
    counts: Mapping[str, int]

    @property
    def parameters(self) -> bool:
        """Whether parameters of the objective changed."""
        return any(path != LEARNING_RATE for path in self.settings)

    @property
    def message(self) -> str:
        """The change as a clause of a sentence."""
        parts = [f"{path} changed from {format_value(old)} to {format_value(new)}" for path, (old, new) in self.settings.items()]
        if self.pairs_version is not None:
            counted = ", ".join(f"{number:,} {what}" for what, number in self.counts.items() if number)
            parts.append(f"edits of the pairs were taken (version {self.pairs_version}{f': {counted}' if counted else ''})")
        return " and ".join(parts)


def made_changes(folder: Path, config: Mapping[str, Any], edits: Mapping[int, Mapping[str, Any]]) -> list[MadeChange]:
    """Return the changes of the run in a folder, oldest first; those made at the same step are merged.

    Empty if their file is damaged.

    Args:
        folder: Folder of the run.
        config: Settings of the run when it was created, as JSON values.
        edits: Details of its edit events, by version of the pairs.
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
            owner = present if path in present else present["objective"]
            settings[path] = (_get(owner, path), value)
            put(owner, path, value)
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
    """Return the names of the objectives of a run's twins, wrapped objectives included."""
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


def format_value(value: Any) -> str:
    """Format the value of a setting for a sentence, with all its digits."""
    if value is None:
        return "its default"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def copied(value: Any) -> Any:
    """Return a mutable copy of nested mappings."""
    return {key: copied(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def put(settings: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a path ("base.beta") of nested mappings."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = settings.get(parent)
        settings[parent] = inner if isinstance(inner, dict) else {"name": inner} if isinstance(inner, str) else {}
        settings = settings[parent]
    settings[last] = value


def _get(settings: Mapping[str, Any], path: str) -> Any:
    parts: Sequence[str] = path.split(".")
    value: Any = settings
    for part in parts:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
