"""A run's model at a checkpoint: encoding, batches and gradients as the run computes them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
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


@dataclass(eq=False)
class OpenModel:
    """A policy at a checkpoint, with everything that its objective needs.

    Attributes:
        run_dir: The run's folder.
        step: Optimizer steps done.
        config: The settings in use at this step.
        pairs_version: Version of the pair store in use at this step.
        store: The pair store.
        policy: The model.
        encoder: Turns pairs into tokens.
        references: Token log-probs of the reference.
        degree_head: The degree head (SPO), or None.
        state: The objective's state.
        stored: The checkpoint without its weights; None for the model as it was loaded.
        keep_optimizer: Whether the run continues with the optimizer state of the checkpoint.
        lock: Held by every method that uses the policy.
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
        """The degraded answers that the objective needs (SPO), or None."""
        return self.objective.degraded_spec()

    @property
    def rate(self) -> float:
        """The learning rate of the next step; the peak if the schedule is over, or is 0 at the beginning of the warm-up."""
        following = self.step + 1
        return (self.config.rate(following) if following <= self.config.steps else 0.0) or self.config.learning_rate

    def pairs(self) -> list[Pair]:
        """Return the pairs in use at this step, without dropped ones."""
        return self.store.all(self.pairs_version)

    def encode(self, pair: Pair) -> EncodedPair:
        """Tokenize a pair as the run does. Raises ValueError if the tokenizer or the model cannot represent a text."""
        return encode_known(pair, self.encoder, self.degraded_spec, self.policy.vocabulary)

    def batches(self, encoded: Sequence[EncodedPair]) -> list[list[EncodedPair]]:
        """Split pairs into batches as an evaluation does."""
        size = self.config.batch_size
        return [list(encoded[start : start + size]) for start in range(0, len(encoded), size)]

    def gradient(self, encoded: Sequence[EncodedPair], step: int, *, training: bool = True) -> StepResult:
        """Compute the gradient of a batch at a step as the training loop does, into `.grad`. References must be prepared.

        Args:
            encoded: The batch.
            step: Step whose random numbers (draws, dropout) are used.
            training: Whether the objective may update its statistics; False for pairs that are no batch of the run.

        Returns:
            The log-probs, draws and terms of the batch.
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
        """Return the trained parameters, in the order of the run's optimizer."""
        head = self.degree_head
        return [*self.policy.parameters().values(), *(head.parameters() if head is not None else ())]

    def forget_gradients(self) -> None:
        """Set `.grad` of all trained parameters to None."""
        for parameter in self.trained():
            parameter.grad = None

    def state_for(self, logps: PairLogps) -> State:
        """Return the objective's state. Statistics over the data set that do not exist yet are computed from `logps`."""
        if self.objective.needs_dataset and not self.state:
            return without_spread(self.objective.dataset_state([logps]))
        return self.state
