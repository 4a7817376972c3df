"""A run's model at one of its checkpoints, open for questions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn

from lab.objectives import DegradedAnswers, Objective, PairLogps, State, with_credit
from lab.pairs import Pair, PairStore
from lab.policy import Encoder, Policy
from lab.training.batches import EncodedPair, generator, step_randomness
from lab.training.checkpoint import Stored
from lab.training.config import TrainConfig
from lab.training.dataset import without_spread
from lab.training.held_out import LOOK
from lab.training.metrics import host_terms, token_rows
from lab.training.prepare import SHARE
from lab.training.reading import encode_known
from lab.training.step import StepResult, accumulate, pair_logps

from .reference import References

if TYPE_CHECKING:
    from .virtual import VirtualStep

Progress = Callable[[str, float], None]
"""Told what is being done and the share of it that is done; it may raise, and then everything is as it was before."""

TOKEN_COLUMNS = ["pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"]


@dataclass(frozen=True)
class Scored:
    """What model and objective say of some pairs.

    step:   optimizer steps that the model has behind it.
    terms:  one row a pair, index `pair` (its id, in the order that was asked), one column a term of the objective.
    tokens: two rows a pair, in the columns of `StoreReader.tokens`: pair, side, then ids, logps, ref_logps (nats), credit and
            pilot, each cell an array [T].
    cut:    answer tokens that did not fit into max_length, by pair and side, where there are any.
    """

    step: int
    terms: pd.DataFrame
    tokens: pd.DataFrame
    cut: dict[str, dict[str, int]]


@dataclass(eq=False)
class Examined:
    """A policy as a checkpoint left it, with all that its objective needs. Made by `lab.examine`; nothing here touches the run.

    step: optimizer steps done at the checkpoint.   config: the settings in use there.   pairs_version: of the pair store, there.
    stored: the checkpoint without the weights; None for a model as it was loaded.   keep_optimizer: whether a run goes on with
    the optimizer's values in it (not a branch that was made without).
    Every method may be called from any thread; one question is answered at a time.
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
    stored: Stored | None = None
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
    def wants(self) -> DegradedAnswers | None:
        """The weakened answers that the objective asks for (SPO), or None."""
        return self.objective.degraded_answers()

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
        return encode_known(pair, self.encoder, self.wants, self.policy.vocabulary)

    def score(self, pairs: Sequence[Pair], *, as_batch_of: int | None = None, progress: Progress | None = None) -> Scored:
        """Token log-probs of policy and reference, every term, and the credit of every token.

        Evaluation mode: dropout is off, the objective's state is read and stays, the objective sees the pairs in batches of
        `batch_size`, and what it draws (SGDPO's pilots) is the same at every call with as many pairs of these lengths. An objective
        that compares the pairs of a batch (`objective.couples`) compares those that are given here.

        as_batch_of: a step. Then the pairs are what the run would compute if they were its batch at that step: in training mode,
        with that step's draws, dropout and share of weakened answers, in one batch. With the checkpoint of step k and the pairs
        of step k + 1 these are the numbers that the run recorded there, to the last bit on the CPU. (Two things are not made
        again: answers that SPO samples to weaken them, and statistics over the data set that the step renews.)

        The pairs may be edited in any way, and need not be in the store. Raises ValueError in one sentence for a text that
        tokenizer or model refuse.
        """
        encoded = [self.encode(pair) for pair in pairs]
        if not encoded:
            raise ValueError("There are no pairs to score; give at least one.")
        with self.lock:
            self.references.prepare([c for pair in encoded for c in pair.completions()])
            if as_batch_of is not None:
                found = [self._as_batch(encoded, as_batch_of)]
            else:
                found = []
                for number, batch in enumerate(self.batches(encoded)):
                    found.append((batch, self._evaluated(batch, number)))
                    if progress is not None:
                        progress("scoring", min(1.0, (number + 1) * self.config.batch_size / len(encoded)))
        return self._scored(encoded, found)

    def virtual_step(
        self,
        pair: Pair,
        *,
        learning_rate: float | None = None,
        on: Sequence[Pair] | None = None,
        sample: int | None = None,
        optimizer: str = "adamw",
        progress: Progress | None = None,
    ) -> VirtualStep:
        """What one optimizer step on this pair alone would do to its own margin and to others: measured, then rolled back.

        learning_rate: of the step; None: `rate`.   on: the other pairs; None: the whole set as it is in use at this step.
        sample: only so many of them, drawn at random, the same at every call.
        optimizer: "adamw", the run's own with the moving averages it had at the checkpoint, so that a part of the step is what the
        run was doing anyway; or "sgd", the plain gradient of this pair alone.
        progress: see `Progress`; raising in it cancels the step.
        Afterwards the weights are what they were, bit for bit. Raises ValueError for what cannot be, and WhatIfError where memory
        will not do.
        """
        from .virtual import virtual_step

        return virtual_step(self, pair, learning_rate=learning_rate, on=on, sample=sample, optimizer=optimizer, progress=progress)

    # Inside

    def batches(self, encoded: Sequence[EncodedPair]) -> list[list[EncodedPair]]:
        """The pairs in batches as an evaluation takes them."""
        size = self.config.batch_size
        return [list(encoded[start : start + size]) for start in range(0, len(encoded), size)]

    def _evaluated(self, batch: list[EncodedPair], number: int) -> StepResult:
        objective = self.objective
        with self.policy.evaluating():
            logps = pair_logps(self.policy, objective, batch, self.references, self.degree_head)
        draws = objective.draw(logps, generator(self.config.seed, number, LOOK))
        return StepResult(with_credit(objective, logps, self._state(logps), draws, training=False), logps, draws)

    def _state(self, logps: PairLogps) -> State:
        """The objective's state; before the first step, of one that keeps statistics of the data set, as a look has it there."""
        if self.objective.needs_dataset and not self.state:
            return without_spread(self.objective.dataset_state([logps]))
        return self.state

    def _as_batch(self, encoded: list[EncodedPair], step: int) -> tuple[list[EncodedPair], StepResult]:
        """Forward and backward exactly as the loop has them; the gradient is thrown away."""
        if self.wants is not None:
            used = torch.rand(len(encoded), generator=generator(self.config.seed, step, SHARE)) < self.wants.share
            encoded = [pair if use else replace(pair, weakened=()) for pair, use in zip(encoded, used.tolist())]
        try:
            return encoded, self.gradient(encoded, step)
        finally:
            self.forget_gradients()

    def gradient(self, encoded: Sequence[EncodedPair], step: int, *, training: bool = True) -> StepResult:
        """Leave in `.grad` what the run's loop would for this batch at this step; the reference has been prepared.

        training: False for pairs that are no batch of the run: they are judged by the statistics that it has.
        """
        config, state = self.config, self.state
        if config.objective.needs_dataset and not state:
            with self.policy.evaluating():
                state = self._state(pair_logps(self.policy, config.objective, encoded, self.references, self.degree_head))
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

    def _scored(self, encoded: Sequence[EncodedPair], found: Sequence[tuple[list[EncodedPair], StepResult]]) -> Scored:
        terms = [pd.DataFrame(host_terms(result.credited)) for _, result in found]
        rows = [row for batch, result in found for row in token_rows(batch, result)]
        cells = [(r.pair, r.side, r.ids, r.logps, r.ref_logps, r.credit, r.pilot) for r in rows]
        index = pd.Index([pair.id for pair in encoded], name="pair")
        cut = {p.id: {"chosen": p.chosen_cut, "rejected": p.rejected_cut, "prompt": p.prompt_cut} for p in encoded}
        return Scored(
            self.step,
            pd.concat(terms, ignore_index=True).set_index(index),
            pd.DataFrame(cells, columns=TOKEN_COLUMNS),
            {id: sides for id, sides in cut.items() if any(sides.values())},
        )
