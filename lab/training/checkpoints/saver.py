"""Saving checkpoints of a run: the record of its steps is on the disk first, then the checkpoint, then old ones are removed."""

from __future__ import annotations

from pathlib import Path

import torch

from lab.run.checkpoints import CheckpointPurpose
from lab.store import best_checkpoint
from lab.training.control.run_changes import RunChanges
from lab.training.distributed import Workers
from lab.training.reporter import RunReporter
from lab.training.run_context import RunContext

from .checkpoint import CheckpointError, TrainingState, mark_kept, remove_old, save_checkpoint, take_snapshot

PATIENCE = 120.0
"""Seconds that a slow disk has for the run's record before a checkpoint is given up."""


class CheckpointSaver:
    """Saves the checkpoints of one run.

    Attributes:
        saved_step: The step of the latest checkpoint that this process has written or resumed from; -1 for none.
    """

    def __init__(self, run_dir: Path, reporter: RunReporter, changes: RunChanges, workers: Workers) -> None:
        self.run_dir, self.reporter, self.changes, self.workers = run_dir, reporter, changes, workers
        self.saved_step = -1
        self._lost = 0

    def save(
        self,
        context: RunContext,
        optimizer: torch.optim.Optimizer,
        state: TrainingState,
        purpose: CheckpointPurpose | None = None,
    ) -> None:
        """Save the run, unless its present step is saved already.

        Args:
            context: Model, settings and pairs in use.
            optimizer: The run's optimizer.
            state: Progress of the run.
            purpose: Why the checkpoint was requested; None for one that the run saves by itself.

        Raises:
            CheckpointError: The disk refuses the checkpoint, or has not yet written the record of the steps before it: a run
                resumed there would have a gap in its history.
        """
        step, store = state.step, self.reporter.store
        if self.saved_step == step:
            if purpose == "keep" and self.workers.is_main:
                mark_kept(self.run_dir, step)  # an OSError refuses the request
            return
        if not self.workers.broadcast(store.flush(PATIENCE)):
            raise CheckpointError(
                f"The checkpoint of step {step} was not written: after {PATIENCE:g} seconds the record of the steps before it was "
                "still not on the disk; see whether the disk is full, slow or gone, earlier checkpoints are kept."
            )
        snapshot = take_snapshot(context.policy, optimizer, state, context.degree_head, sharded=self.workers.sharded)
        if self.workers.is_main:
            self._warn_of_lost_entries()
            settings = {
                "settings": context.config.model_dump(mode="json"),
                "pairs_version": self.changes.pairs_version,
                "changes": self.changes.applied(),
            }
            folder = save_checkpoint(
                self.run_dir, context.policy, snapshot, state, settings | ({"purpose": purpose} if purpose else {})
            )
            store.event(step, "checkpoint", folder=folder.name)
            self._remove_old(context)
        self.saved_step = step

    def _remove_old(self, context: RunContext) -> None:
        config = context.config
        try:
            remove_old(self.run_dir, config.keep_checkpoints, best_checkpoint(self.run_dir, config.keep_best))
        except OSError as error:
            self.reporter.warn(f"Old checkpoints could not be deleted ({error.strerror}); they take room, and training goes on.")

    def _warn_of_lost_entries(self) -> None:
        """Warn of entries of the record that the disk refused; the training itself is still saved."""
        store = self.reporter.store
        if store.lost > self._lost:
            lost, self._lost = store.lost - self._lost, store.lost
            self.reporter.warn(
                f"{lost:,} entries of this run's record could not be written ({store.failure}): its history has a gap here."
            )
