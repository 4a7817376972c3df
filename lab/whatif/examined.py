"""A run's model at one of its checkpoints, open for questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lab.objectives import with_credit
from lab.pairs import Pair
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.data.random_streams import Purpose, drawn_with_share, generator
from lab.training.metrics import host_terms, token_rows
from lab.training.step import StepResult, pair_logps

from .open_model import OpenModel, Progress
from .virtual import VirtualStep, virtual_step

TOKEN_COLUMNS = ["pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"]


@dataclass(frozen=True)
class Scored:
    """What model and objective say of some pairs.

    step:   optimizer steps that the model has behind it.
    terms:  one row a pair, index `pair` (its id, in the order that was asked), one column a term of the objective.
    tokens: two rows a pair, in the columns of `TokenReader.read`: pair, side, then ids, logps, ref_logps (nats), credit and
            pilot, each cell an array [T].
    cut:    answer tokens that did not fit into max_length, by pair and side, where there are any.
    """

    step: int
    terms: pd.DataFrame
    tokens: pd.DataFrame
    cut: dict[str, dict[str, int]]


class Examined(OpenModel):
    """A policy as a checkpoint left it, with all that its objective needs. Made by `lab.examine`; nothing here touches the run.

    Every method may be called from any thread; one question is answered at a time.
    """

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
        return virtual_step(self, pair, learning_rate=learning_rate, on=on, sample=sample, optimizer=optimizer, progress=progress)

    def _evaluated(self, batch: list[EncodedPair], number: int) -> StepResult:
        objective = self.objective
        with self.policy.evaluating():
            logps = pair_logps(self.policy, objective, batch, self.references, self.degree_head)
        draws = objective.draw(logps, generator(self.config.seed, number, Purpose.EVALUATION))
        return StepResult(with_credit(objective, logps, self.state_for(logps), draws, training=False), logps, draws)

    def _as_batch(self, encoded: list[EncodedPair], step: int) -> tuple[list[EncodedPair], StepResult]:
        """Forward and backward exactly as the loop has them; the gradient is thrown away."""
        if self.degraded_spec is not None:
            used = drawn_with_share(len(encoded), self.degraded_spec.share, self.config.seed, step)
            encoded = [pair if use else replace(pair, degraded=()) for pair, use in zip(encoded, used)]
        try:
            return encoded, self.gradient(encoded, step)
        finally:
            self.forget_gradients()

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
