"""A run's model at one of its checkpoints, opened: encoding, batches and gradients as the run computes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lab.objectives import DegradedSpec, Objective, PairLogps, State
from lab.pairs import Pair, PairStore
from lab.policy import Encoder, Policy
from lab.run.config import TrainConfig
from lab.training.checkpoints.checkpoint import StoredCheckpoint
from lab.training.data.encoded_pairs import EncodedPair, encode_known
from lab.training.data.random_streams import step_randomness
from lab.training.data.statistics import without_spread
from lab.training.step import StepResult, accumulate, pair_logps

from .reference import References

Progress = Callable[[str, float], None]
"""Told what is being done and the share of it that is done; it may raise, and then everything is as it was before."""


@dataclass(eq=False)
class OpenModel:
    """A policy as a checkpoint left it, with all that its objective needs.

    step: optimizer steps done at the checkpoint.   config: the settings in use there.   pairs_version: of the pair store, there.
    stored: the checkpoint without the weights; None for a model as it was loaded.   keep_optimizer: whether a run goes on with
    the optimizer's values in it (not a branch that was made without).
    lock: held while a question is answered.
    """

    run_dir: Path
    step: int
    config: TrainConfig
    pairs_version: int
    store: PairStore
    policy: Policy
    encoder: Encoder
    references: References
    degree_head: nn.Module | None
    state: State
    stored: StoredCheckpoint | None = None
    keep_optimizer: bool = True

    def __post_init__(self) -> None:
        self.lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<The model of {self.run_dir.name} after step {self.step}>"

    @property
    def objective(self) -> Objective:
        """The objective with the parameters in use at this step."""
        return self.config.objective

    @property
    def degraded_spec(self) -> DegradedSpec | None:
        """The weakened answers that the objective asks for (SPO), or None."""
        return self.objective.degraded_spec()

    @property
    def rate(self) -> float:
        """The learning rate of the step that would follow; where the schedule has none there (it is over, or the warm-up begins
        with 0), its peak."""
        following = self.step + 1
        return (self.config.rate(following) if following <= self.config.steps else 0.0) or self.config.learning_rate

    def pairs(self) -> list[Pair]:
        """The pair set as it was in use at this step, without dropped pairs."""
        return self.store.all(self.pairs_version)

    def encode(self, pair: Pair) -> EncodedPair:
        """A pair as tokens, as the run reads it. Raises ValueError in one sentence where tokenizer or model refuse the text."""
        return encode_known(pair, self.encoder, self.degraded_spec, self.policy.vocabulary)

    def batches(self, encoded: Sequence[EncodedPair]) -> list[list[EncodedPair]]:
        """The pairs in batches as an evaluation takes them."""
        size = self.config.batch_size
        return [list(encoded[start : start + size]) for start in range(0, len(encoded), size)]

    def gradient(self, encoded: Sequence[EncodedPair], step: int, *, training: bool = True) -> StepResult:
        """Leave in `.grad` what the run's loop would for this batch at this step; the reference has been prepared.

        training: False for pairs that are no batch of the run: they are judged by the statistics that it has.
        """
        config, state = self.config, self.state
        if config.objective.needs_dataset and not state:
            with self.policy.evaluating():
                state = self.state_for(pair_logps(self.policy, config.objective, encoded, self.references, self.degree_head))
        draws, dropout_seed = step_randomness(config.seed, step, drops=config.lora_dropout > 0)
        return accumulate(
            self.policy,
            config.objective,
            encoded,
            state,
            draws,
            reference=self.references,
            degree_head=self.degree_head,
            micro_batch_size=config.micro_batch,
            dropout_seed=dropout_seed,
            training=training,
        )

    def trained(self) -> list[nn.Parameter]:
        """The parameters that a step moves, in the order of the run's optimizer."""
        head = self.degree_head
        return [*self.policy.parameters().values(), *(head.parameters() if head is not None else ())]

    def forget_gradients(self) -> None:
        for parameter in self.trained():
            parameter.grad = None

    def state_for(self, logps: PairLogps) -> State:
        """The objective's state; before the first step, of one that keeps statistics of the data set, as a look has it there."""
        if self.objective.needs_dataset and not self.state:
            return without_spread(self.objective.dataset_state([logps]))
        return self.state
