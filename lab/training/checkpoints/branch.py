"""Branches: new runs that begin from another run's checkpoint with another objective or other settings.

A branch continues its parent's step count; learning rate and batch schedule follow from its own settings at these steps, so a
branch that changes nothing equals its parent bit for bit. Its reference is its parent's (the model as loaded, untrained), and so
are its held-out prompts: prompts that the parent trained on are useless for evaluation.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.objectives import Objective
from lab.run.checkpoints import START, find_checkpoint
from lab.run.config import ConfigError, TrainConfig
from lab.run.settings import checkpoint_settings
from lab.store import Change, durable, read_changes, read_manifest, write_changes
from lab.store.changes import parse_changes
from lab.store.folder import read_metadata

FIXED = ("model", "lora_rank", "lora_alpha", "lora_targets")
"""Settings that a branch cannot change, because the weights of the checkpoint depend on them."""


@dataclass(frozen=True)
class Start:
    """The checkpoint that a branch begins from.

    Attributes:
        folder: Folder of the checkpoint.
        step: Its step.
        objective: The parent's objective at the checkpoint.
        keep_optimizer: Whether the branch continues with the parent's optimizer state.
        parent: Name of the parent.
    """

    folder: Path
    step: int
    objective: Objective
    keep_optimizer: bool
    parent: str


@dataclass(frozen=True)
class Branch:
    """A branch to be created.

    Attributes:
        checkpoint: Folder of the checkpoint that it begins from.
        config: Its settings.
        changes: Changes of the parent's pair set up to the checkpoint.
        parent: The entry "branch" of its manifest.
    """

    checkpoint: Path
    config: TrainConfig
    changes: list[Change]
    parent: dict[str, Any]


def plan_branch(parent: Path, at: int | None, given: Mapping[str, Any], *, keep_optimizer: bool, same_pairs: bool) -> Branch:
    """Return the branch that begins from a checkpoint of another run; nothing is written.

    Args:
        parent: Folder of the other run.
        at: Step of the checkpoint; None for the latest.
        given: Settings that differ from those in use at the checkpoint.
        keep_optimizer: Continue with the parent's optimizer state.
        same_pairs: Whether the branch trains on its parent's pair set.

    Raises:
        ConfigError: There is no such checkpoint, or a branch cannot change one of the settings.
    """
    manifest = read_manifest(parent)
    checkpoint = find_checkpoint(parent, at)
    metadata = read_metadata(checkpoint)
    former = TrainConfig.parse(**metadata["settings"])
    base = checkpoint_settings(checkpoint)
    config = TrainConfig.parse(**dict(base) | {"name": ""} | dict(given))
    for name in FIXED:
        if getattr(config, name) != getattr(base, name):
            raise ConfigError(
                f"A branch continues with the weights of its checkpoint, so its {name} stays {getattr(base, name)!r}; "
                "leave it out, or start a new run."
            )
    _require_same_split(base, config)
    step = metadata["step"]
    if config.steps <= step:
        raise ConfigError(
            f"The checkpoint is of step {step} and the branch would end at step {config.steps}; give steps, more than {step}."
        )
    made = parse_changes(metadata["changes"]) if checkpoint.name != START else [c for c in read_changes(parent) if c.after <= step]
    changes = [replace(change, settings={}) for change in made if change.pairs_version is not None]
    entry = {
        "run": str(parent.resolve()),
        "name": manifest["config"]["name"] or parent.name,
        "step": step,
        "keep_optimizer": keep_optimizer,
        "settings": former.model_dump(mode="json"),
    }
    return Branch(checkpoint, config, changes if same_pairs else [], entry)


def _require_same_split(base: TrainConfig, config: TrainConfig) -> None:
    """Raise ConfigError where a branch would be evaluated on prompts that its parent trained on.

    Seed and held_out choose the held-out prompts; a run without evaluations holds out none.
    """
    if config.seed != base.seed:
        raise ConfigError(
            f"A branch keeps its parent's seed, {base.seed}: the seed chooses the prompts that are never trained on, and with "
            "another one the branch would be evaluated on pairs that its weights were trained on; leave it out, or start a new run."
        )
    share = base.held_out if base.evaluate else 0.0
    if config.evaluate and config.held_out != share:
        why = "" if base.evaluate else " (it had no evaluations and trained on all pairs)"
        remedy = "leave it out" if base.evaluate else "give held_out = 0 or evaluate = False"
        raise ConfigError(
            f"A branch keeps its parent's held_out, {share:g}{why}: with another share it would be evaluated on pairs that its "
            f"weights were trained on; {remedy}, or start a new run."
        )


def copy_start(folder: Path, branch: Branch) -> None:
    """Copy the checkpoint of a branch, and its changes, into its run folder. Files are hard-linked where possible."""
    if branch.changes:
        write_changes(folder, branch.changes)
    draft = folder / f".{START}"
    shutil.copytree(branch.checkpoint, draft, copy_function=_link)
    durable.publish(draft, folder / START)


def read_start(folder: Path, manifest: Mapping[str, Any]) -> Start | None:
    """Return the checkpoint that the run in `folder` begins from, or None if it is no branch.

    Raises ConfigError if the branch was not created completely.
    """
    if "branch" not in manifest:
        return None
    if not (folder / START).exists():
        raise ConfigError(f"The branch in {folder} was not completed when it was made; delete the folder and branch again.")
    entry = manifest["branch"]
    former = TrainConfig.parse(**entry["settings"]).objective
    return Start(folder / START, entry["step"], former, entry["keep_optimizer"], entry["name"])


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)
    return target
