"""Where a run begins: at its first step, at its own latest checkpoint (resume), or at another run's checkpoint (branch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lab.objectives import Objective
from lab.policy import Policy
from lab.run.changeable import same_state
from lab.store.folder import read_metadata
from lab.training.checkpoints.branch import Start
from lab.training.distributed import Workers

from .checkpoint import StoredCheckpoint, TrainingState, latest_readable, read_checkpoint, restore_optimizer_state, restore_weights


@dataclass(frozen=True)
class StartingPoint:
    """The checkpoint that a run continues from, if there is one.

    Attributes:
        own: The run's own latest checkpoint that can be read; None at the first step of a run or of a branch.
        branch: The checkpoint of another run that this one branched from, or None.
        damaged: A message for every later checkpoint that cannot be read.
    """

    own: StoredCheckpoint | None = None
    branch: Start | None = None
    damaged: Sequence[str] = ()

    @property
    def step(self) -> int:
        """Optimizer steps that are done."""
        if self.own is not None:
            return int(self.own.metadata["step"])
        return self.branch.step if self.branch else 0

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the checkpoint; empty without one."""
        if self.own is not None:
            return self.own.metadata
        return read_metadata(self.branch.folder) if self.branch else {}


@dataclass(frozen=True)
class Restored:
    """State that a run continues with.

    Attributes:
        state: Progress of the run.
        checkpoint: The checkpoint that holds the optimizer state to restore, or None for a fresh optimizer.
        exact: Whether the optimizer state has to fit (not for a branch with other settings).
    """

    state: TrainingState
    checkpoint: StoredCheckpoint | None = None
    exact: bool = True


def find_starting_point(run_dir: Path, policy: Policy, *, resume: bool, branch: Start | None, workers: Workers) -> StartingPoint:
    """Find the checkpoint that a run continues from. Raises CheckpointError where none of its checkpoints can be read."""
    if not resume:
        return StartingPoint(branch=branch)
    own, damaged = workers.main_process_first(lambda: latest_readable(run_dir, policy))
    return StartingPoint(own, branch, damaged)


def restore(point: StartingPoint, policy: Policy, degree_head: nn.Module | None, objective: Objective) -> Restored:
    """Restore the weights of policy and degree head; return the state to continue with.

    Raises CheckpointError where the checkpoint does not fit the run.
    """
    if point.own is not None:
        restore_weights(point.own, policy, degree_head)
        return Restored(point.own.training_state, point.own)
    if point.branch is None:
        return Restored(TrainingState(objective_state=objective.initial_state()))
    stored = read_checkpoint(point.branch.folder, policy)
    restore_weights(stored, policy, degree_head, exact=False)
    state = replace(stored.training_state, evaluation=None, clock=0.0)
    if not same_state(point.branch.objective, objective):
        state.objective_state = objective.initial_state()
    return Restored(state, stored if point.branch.keep_optimizer else None, exact=False)


def restore_optimizer(restored: Restored, policy: Policy, optimizer: torch.optim.Optimizer, degree_head: nn.Module | None) -> None:
    """Restore the optimizer state. Call it once the parameters are final (sharded where they are)."""
    if restored.checkpoint is not None:
        restore_optimizer_state(restored.checkpoint, policy, optimizer, degree_head, exact=restored.exact)
