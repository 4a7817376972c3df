"""A new run from another's checkpoint, with another objective or other settings.

A branch goes on counting steps, and has the schedule and the order of pairs of its own settings at those steps: one that changes
nothing equals its parent, number for number. Its reference is its parent's: the model as loaded, without what was trained. So is
its held-out part: prompts that the parent trained on would tell a branch nothing if it held them out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.objectives import Objective
from lab.run.config import ConfigError, TrainConfig
from lab.store import Change, durable, list_checkpoints, read_changes, read_manifest, write_changes
from lab.store.changes import parse_changes
from lab.store.folder import read_metadata, step_of

START = "start"
"""In a branch's folder: the checkpoint that it begins from, so that it needs its parent no more."""

FIXED = ("model", "lora_rank", "lora_alpha", "lora_targets")
"""Settings that give the weights of a checkpoint their meaning."""


@dataclass(frozen=True)
class Start:
    """The checkpoint of another run that a branch begins from, and the objective that run had there."""

    folder: Path
    step: int
    objective: Objective
    keep_optimizer: bool
    parent: str


@dataclass(frozen=True)
class Branch:
    """What a branch is made from.

    config: its settings.   changes: how its parent's pair set changed up to the checkpoint.   parent: for `run.json`.
    """

    checkpoint: Path
    config: TrainConfig
    changes: list[Change]
    parent: dict[str, Any]


def plan_branch(parent: Path, at: int | None, given: Mapping[str, Any], *, keep_optimizer: bool, same_pairs: bool) -> Branch:
    """Settings of a branch from the checkpoint of step `at` (None: the latest) of the run in the folder `parent`.

    given: TrainConfig fields that differ from those in use there.   same_pairs: it trains on its parent's pair set.
    Raises ConfigError where there is no such checkpoint, and for a setting that a branch cannot change.
    """
    manifest = read_manifest(parent)
    checkpoint = _find(parent, at)
    metadata = read_metadata(checkpoint)
    former = TrainConfig.parse(**metadata["settings"])
    base = _settings(parent, checkpoint).made_at(manifest["created"])
    config = TrainConfig.parse(**dict(base) | {"name": ""} | dict(given))
    for name in FIXED:
        if getattr(config, name) != getattr(base, name):
            raise ConfigError(
                f"A branch goes on with the weights of its checkpoint, so its {name} stays {getattr(base, name)!r}; "
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
    told = {
        "run": str(parent.resolve()),
        "name": manifest["config"]["name"] or parent.name,
        "step": step,
        "keep_optimizer": keep_optimizer,
        "settings": former.model_dump(mode="json"),
    }
    return Branch(checkpoint, config, changes if same_pairs else [], told)


def _require_same_split(base: TrainConfig, config: TrainConfig) -> None:
    """Raises ConfigError where the branch would look at prompts that its parent trained on: seed and share choose what is held out.
    A branch that takes no looks has no share."""
    if config.seed != base.seed:
        raise ConfigError(
            f"A branch keeps its parent's seed, {base.seed}: the seed chooses the prompts that are never trained on, and with "
            "another one the branch would be evaluated on pairs that its weights were trained on; leave it out, or start a new run."
        )
    share = base.held_out if base.evaluate else 0.0
    if config.evaluate and config.held_out != share:
        why = "" if base.evaluate else " (it took no looks and trained on all pairs)"
        remedy = "leave it out" if base.evaluate else "give held_out = 0 or evaluate = False"
        raise ConfigError(
            f"A branch keeps its parent's held_out, {share:g}{why}: with another share it would be evaluated on pairs that its "
            f"weights were trained on; {remedy}, or start a new run."
        )


def settings_at(parent: Path, at: int | None) -> TrainConfig:
    """The settings in use at a checkpoint. Raises ConfigError where there is none of that step."""
    return _settings(parent, _find(parent, at))


def _settings(parent: Path, checkpoint: Path) -> TrainConfig:
    """What the run used there. Of the checkpoint that it began from itself, the facts are those of another run."""
    if checkpoint.name == START:
        return TrainConfig.parse(**read_manifest(parent)["config"])
    return TrainConfig.parse(**read_metadata(checkpoint)["settings"])


def lay_out(folder: Path, branch: Branch) -> None:
    """Put into a new run's folder what a branch begins from. Files are linked where they can be: a checkpoint never changes."""
    if branch.changes:
        write_changes(folder, branch.changes)
    draft = folder / f".{START}"
    shutil.copytree(branch.checkpoint, draft, copy_function=_link)
    durable.publish(draft, folder / START)


def read_start(folder: Path, manifest: Mapping[str, Any]) -> Start | None:
    """What the run in a folder begins from if it is a branch. Raises ConfigError if it was never completed."""
    if "branch" not in manifest:
        return None
    if not (folder / START).exists():
        raise ConfigError(f"The branch in {folder} was not completed when it was made; delete the folder and branch again.")
    told = manifest["branch"]
    former = TrainConfig.parse(**told["settings"]).objective
    return Start(folder / START, told["step"], former, told["keep_optimizer"], told["name"])


def _find(parent: Path, at: int | None) -> Path:
    """The checkpoint of a step; that which a branch began from counts as one of its own."""
    there = {step_of(path): path for path in list_checkpoints(parent)}
    if (parent / START).exists():
        there.setdefault(read_metadata(parent / START)["step"], parent / START)
    if not there:
        raise ConfigError(f"The run in {parent} has no checkpoint to branch from yet; ask it for one, or wait for the next.")
    step = max(there) if at is None else at
    if step not in there:
        raise ConfigError(f"The run in {parent} has no checkpoint of step {step}; it has {', '.join(map(str, sorted(there)))}.")
    return there[step]


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copy2(source, target)
    return target
