"""Statistics over all pairs of a run, for objectives that judge a pair by where it stands among all (alpha-DPO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lab.objectives import Objective, State
from lab.policy import Policy
from lab.run.config import TrainConfig
from lab.training.step import Reference, pair_logps

from .batches import EncodedPair
from .schedule import BatchSchedule

BATCH = 32
"""Pairs that go through the policy at once."""


def dataset_state(
    policy: Policy,
    objective: Objective,
    pairs: Sequence[EncodedPair],
    reference: Reference | None,
    stage: Callable[[str, float], None],
    listen: Callable[[], None],
) -> State:
    """What the objective keeps of all these pairs under the policy as it is; see `Objective.dataset_state`.

    Before every batch stage(words, share done) and listen() are called; they may raise.
    """
    batches = []
    for start in range(0, len(pairs), BATCH):
        stage("statistics over the data set", start / len(pairs))
        listen()
        with policy.evaluating():
            batches.append(pair_logps(policy, objective, pairs[start : start + BATCH], reference))
    return objective.dataset_state(batches)


def statistics_due(config: TrainConfig, state: State | None, schedule: BatchSchedule, step: int) -> bool:
    """Whether an objective that needs statistics gets new ones before a step: where there are none yet, at the start of every
    epoch, and once after the warm-up."""
    if not config.objective.needs_dataset:
        return False
    return not state or step == config.warmup_steps + 1 or schedule.begins_epoch(step)


def without_spread(state: State) -> State:
    """The statistics before the first step: policy and reference are one model then, and their gaps are rounding, not a spread."""
    return state | {"std": torch.zeros_like(state["std"])}
