"""Versions of the pair set that a run is set to use, and that it has used at which steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store import read_changes, read_manifest

from .config import ConfigError

if TYPE_CHECKING:
    from lab.pairs import PairStore

CURRENT, FOLLOW = "current", "follow"
FIXED = "{name} is set to version {wanted} of its pairs (pairs_version), so it takes no edits; branch from it to train on others."
"""Why a run that is set to one version refuses edits."""


@dataclass(frozen=True)
class UsedVersion:
    """Steps of a run that trained on one version of its pair set.

    Attributes:
        version: Version of the pair store.
        first: First step that was trained on it.
        last: Last step that was trained on it so far.
    """

    version: int
    first: int
    last: int


def used_versions(folder: Path, done: int) -> list[UsedVersion]:
    """Return the versions of the pair set that the first `done` steps of a run were trained on, in their order.

    A branch begins with the versions that its parent used. Raises RunError if the folder holds no run, or its changes are damaged.
    """
    begins = [(0, int(read_manifest(folder)["pairs_version"]))]
    begins += [(change.after, change.pairs_version) for change in read_changes(folder) if change.pairs_version is not None]
    ends = [*(min(after, done) for after, _ in begins[1:]), done]
    return [UsedVersion(version, after + 1, end) for (after, version), end in zip(begins, ends) if after < end]


def is_fixed(wanted: str) -> bool:
    """Return whether a setting `pairs_version` names one version, so that the run takes no edits."""
    return wanted not in (CURRENT, FOLLOW)


def version_to_begin_with(store: PairStore, wanted: str) -> int:
    """Return the version of a pair store that a run with the setting `pairs_version` = `wanted` begins with.

    A number is a version; any other text is the name of a snapshot. Raises ConfigError where the store has neither.
    """
    latest = store.version
    if not is_fixed(wanted):
        return latest
    if wanted.isdecimal() and int(wanted) <= latest:
        return int(wanted)
    snapshots = {snapshot.name: snapshot.version for snapshot in store.snapshots()}
    if wanted in snapshots:
        return snapshots[wanted]
    named = f", or a snapshot ({', '.join(snapshots)})" if snapshots else ""
    raise ConfigError(
        f"pairs_version = {wanted!r} does not work: {store.name} has no such version or snapshot; give current, follow, a number "
        f"from 0 to {latest}{named}."
    )
