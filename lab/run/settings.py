"""The settings of a run at any step, from its list of changes or as saved with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from lab import extensions
from lab.store import StoreReader, read_changes, read_manifest
from lab.store.folder import read_metadata

from .changeable import changed
from .checkpoints import START
from .config import TrainConfig


class _HasFolder(Protocol):
    """A handle to a run, for example `lab.Run`."""

    @property
    def folder(self) -> Path: ...


def settings_at(run: _HasFolder | Path, step: int | None = None) -> TrainConfig:
    """Return the settings in use after `step` optimizer steps: those that step + 1 is trained with.

    Args:
        run: A run, or its folder.
        step: Optimizer steps done; None for as many as the run has done by now.

    Raises:
        ConfigError: If the settings cannot be read, for example because a custom objective is missing.
        RunError: If the folder holds no run, or its list of changes is damaged.
    """
    folder = run if isinstance(run, Path) else run.folder
    done = StoreReader(folder).step if step is None else step
    extensions.load()
    config = TrainConfig.parse(**read_manifest(folder)["config"])
    for change in read_changes(folder):
        if change.settings and change.after <= done:
            config = changed(config, change.settings)
    return config


def checkpoint_settings(checkpoint: Path) -> TrainConfig:
    """Return the settings saved with a checkpoint.

    They differ from `settings_at` in two cases: the micro-batch size is a number if it was `fit`, and a change made at the same
    step, but after saving, is not included.

    Args:
        checkpoint: One of a run's checkpoint folders, or the checkpoint in a branch's folder that the branch began from. That
            one was saved by another run, so its settings are those that the branch was made with.

    Raises:
        ConfigError: If the settings cannot be read, for example because a custom objective is missing.
        RunError: If the checkpoint is damaged.
    """
    branch = checkpoint.name == START
    manifest = read_manifest(checkpoint.parent if branch else checkpoint.parent.parent)
    extensions.load()
    settings = manifest["config"] if branch else read_metadata(checkpoint)["settings"]
    return TrainConfig.parse(**settings).made_at(manifest["created"])


def pairs_version_at(run: _HasFolder | Path, step: int) -> int:
    """Return the version of the pair store that is trained on after `step` optimizer steps.

    Raises:
        RunError: If the folder holds no run, or its list of changes is damaged.
    """
    folder = run if isinstance(run, Path) else run.folder
    versions = [change.pairs_version for change in read_changes(folder) if change.after <= step]
    return next((version for version in reversed(versions) if version is not None), int(read_manifest(folder)["pairs_version"]))
