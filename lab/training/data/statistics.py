"""Statistics over all training pairs, for objectives that normalise a pair's terms by them (alpha-DPO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lab.objectives import Objective, State
from lab.policy import Policy
from lab.run.config import TrainConfig
from lab.training.step import Reference, pair_logps

from .encoded_pairs import EncodedPair
from .schedule import BatchSchedule

BATCH = 32
"""Pairs per forward pass."""


def dataset_state(
    policy: Policy,
    objective: Objective,
    pairs: Sequence[EncodedPair],
    reference: Reference | None,
    report_stage: Callable[[str, float], None],
    poll: Callable[[], None],
) -> State:
    """Return the objective's state over all pairs under the present policy; see `Objective.dataset_state`.

    Args:
        policy: The model in training.
        objective: An objective that needs statistics of the data set.
        pairs: All training pairs.
        reference: Reference log-probs, or None.
        report_stage: Receives (text, share done) before every batch.
        poll: Called before every batch; may raise to stop.
    """
    batches = []
    for start in range(0, len(pairs), BATCH):
        report_stage("statistics over the data set", start / len(pairs))
        poll()
        with policy.evaluating():
            batches.append(pair_logps(policy, objective, pairs[start : start + BATCH], reference))
    return objective.dataset_state(batches)


def statistics_due(config: TrainConfig, state: State | None, schedule: BatchSchedule, step: int) -> bool:
    """Return whether an objective's statistics are computed before a step: at the first, at every epoch, and after the warm-up."""
    if not config.objective.needs_dataset:
        return False
    return not state or step == config.warmup_steps + 1 or schedule.begins_epoch(step)


def without_spread(state: State) -> State:
    """Return statistics with a standard deviation of 0: before the first step policy and reference are equal up to rounding."""
    return state | {"std": torch.zeros_like(state["std"])}
