"""Saving a run: first all that led here is on the disk, then the checkpoint has its name, then old ones go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lab.policy import Policy
from lab.store import StoreWriter, best_checkpoint
from lab.training.distributed import Workers

from .checkpoint import Asked, CheckpointError, TrainingState, drop_old, keep_asked, save_checkpoint, take_snapshot

if TYPE_CHECKING:
    from lab.training.control.steering import Steering

PATIENCE = 120.0
"""Seconds that a slow disk has for the run's record before a checkpoint is given up."""


class Saving:
    """Saves one run. at: the step whose checkpoint there is already, -1 for none."""

    def __init__(self, run_dir: Path, store: StoreWriter, workers: Workers) -> None:
        self.run_dir, self.store, self.workers = run_dir, store, workers
        self.at = -1
        self._lost = 0

    def __call__(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        progress: TrainingState,
        degree_head: nn.Module | None,
        steering: Steering,
        *,
        asked: Asked | None = None,
    ) -> None:
        """Save the run as it is, unless that is done. asked: why, where somebody asked for it.

        Raises CheckpointError where the disk refuses the checkpoint, or has not taken the record of the steps that led to it: a run
        that resumed here would have a hole in its history.
        """
        step = progress.step
        if self.at == step:
            if asked == "keep" and self.workers.is_main:
                keep_asked(self.run_dir, step)  # an OSError refuses the request
            return
        if not self.workers.broadcast(self.store.flush(PATIENCE)):
            raise CheckpointError(
                f"The checkpoint of step {step} was not written: after {PATIENCE:g} seconds the record of the steps before it was "
                "still not on the disk; see whether the disk is full, slow or gone, earlier checkpoints are kept."
            )
        snapshot = take_snapshot(policy, optimizer, progress, degree_head, sharded=self.workers.sharded)
        if self.workers.is_main:
            self._say_what_is_lost(step)
            manifest = steering.settings_in_use() | ({"asked": asked} if asked else {})
            folder = save_checkpoint(self.run_dir, policy, snapshot, progress, manifest)
            self.store.event(step, "checkpoint", folder=folder.name)
            config = steering.config
            try:
                drop_old(self.run_dir, config.keep_checkpoints, best_checkpoint(self.run_dir, config.keep_best))
            except OSError as error:
                message = f"Old checkpoints could not be deleted ({error.strerror}); they take room, and training goes on."
                self.store.event(step, "warning", message=message)
        self.at = step

    def _say_what_is_lost(self, step: int) -> None:
        """What the disk refused for good is no reason to lose the training too, but to say so."""
        if self.store.lost > self._lost:
            lost, self._lost = self.store.lost - self._lost, self.store.lost
            message = (
                f"{lost:,} entries of this run's record could not be written ({self.store.failure}): its history has a hole here."
            )
            self.store.event(step, "warning", message=message)
