"""A run's model at a checkpoint: score pairs, take virtual steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lab.objectives import with_credit
from lab.pairs import Pair, Prompt
from lab.policy import sample_answers
from lab.progress import StageProgress
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.data.random_streams import Purpose, drawn_with_share, generator
from lab.training.metrics import host_terms, token_rows
from lab.training.step import StepResult, pair_logps

from .open_model import OpenModel
from .virtual import VirtualStep, virtual_step

TOKEN_COLUMNS = ["pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"]


@dataclass(frozen=True)
class Scored:
    """Terms and token values of some pairs.

    Attributes:
        step: Optimizer steps that the model has done.
        terms: One row per pair, index `pair` (ids, in the given order), one column per term of the objective.
        tokens: Two rows per pair, with columns pair, side, ids, logps, ref_logps (nats), credit and pilot; the last five contain
            arrays [T].
        cut: Tokens that did not fit into max_length, by pair and part, for pairs that have any.
    """

    step: int
    terms: pd.DataFrame
    tokens: pd.DataFrame
    cut: dict[str, dict[str, int]]


class Examined(OpenModel):
    """A policy at a checkpoint, with everything that its objective needs. Made by `lab.examine`; the run is not changed.

    Safe to use from several threads; calls are executed one after the other.
    """

    def answers(
        self, prompt: Prompt, *, count: int = 2, temperature: float = 1.0, max_new_tokens: int = 128, seed: int = 0
    ) -> list[str]:
        """Sample answers of the policy to one prompt, as the run's evaluation samples them (see `lab.policy.sample`).

        Args:
            prompt: Text or conversation.
            count: How many answers.
            temperature: 0 for greedy decoding.
            max_new_tokens: Token limit of an answer.
            seed: The same seed gives the same answers.
        """
        with self.lock:
            return sample_answers(
                self.policy,
                [prompt],
                per_prompt=count,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                seed=seed,
                max_length=self.config.max_length,
            )[0]

    def score(self, pairs: Sequence[Pair], *, as_batch_of: int | None = None, progress: StageProgress | None = None) -> Scored:
        """Compute token log-probs of policy and reference, every term, and the credit of every token.

        By default in evaluation mode: no dropout, the objective's state is not updated, the pairs are in batches of `batch_size`,
        and random draws (SGDPO's pilots) are equal for every call with equal numbers and lengths of pairs. An objective that
        compares the pairs of a batch (`objective.couples`) compares the given ones.

        Args:
            pairs: The pairs; they may be edited, and need not be in the store.
            as_batch_of: Compute the pairs as the run's batch of this step: in training mode, in one batch, with the step's draws,
                dropout and share of degraded answers. With the checkpoint of step k and the pairs of step k + 1 these are the
                numbers that the run recorded, to the last bit on the CPU, except answers that SPO samples and statistics over the
                data set that the step updates.
            progress: Called as progress(stage, share).

        Raises:
            ValueError: If there are no pairs, or the tokenizer or the model cannot represent a text.
        """
        encoded = [self.encode(pair) for pair in pairs]
        if not encoded:
            raise ValueError("There are no pairs to score; give at least one.")
        with self.lock:
            self.references.prepare([c for pair in encoded for c in pair.completions()])
            if as_batch_of is not None:
                results = [self._as_batch(encoded, as_batch_of)]
            else:
                results = []
                for number, batch in enumerate(self.batches(encoded)):
                    results.append((batch, self._evaluated(batch, number)))
                    if progress is not None:
                        progress("scoring", min(1.0, (number + 1) * self.config.batch_size / len(encoded)))
        return self._scored(encoded, results)

    def virtual_step(
        self,
        pair: Pair,
        *,
        learning_rate: float | None = None,
        on: Sequence[Pair] | None = None,
        sample: int | None = None,
        optimizer: str = "adamw",
        progress: StageProgress | None = None,
    ) -> VirtualStep:
        """Take one optimizer step on this pair alone, measure its effect on all pairs, and roll it back.

        The weights are restored bit for bit.

        Args:
            pair: The pair to step on; it may be edited.
            learning_rate: Learning rate of the step; None for `rate`.
            on: The other pairs to measure; None for all that are in use at this step.
            sample: Measure only this many of them, drawn at random, the same at every call.
            optimizer: "adamw" continues with the moments of the checkpoint, so that the step contains the run's momentum; "sgd"
                uses the gradient of this pair alone.
            progress: Called as progress(stage, share); raising in it cancels the step.

        Raises:
            ValueError: For an unknown optimizer, an invalid learning rate, or a text that cannot be represented.
            WhatIfError: If there is not enough memory.
        """
        return virtual_step(self, pair, learning_rate=learning_rate, on=on, sample=sample, optimizer=optimizer, progress=progress)

    def _evaluated(self, batch: list[EncodedPair], number: int) -> StepResult:
        objective = self.objective
        with self.policy.evaluating():
            logps = pair_logps(self.policy, objective, batch, self.references, self.degree_head)
        draws = objective.draw(logps, generator(self.config.seed, number, Purpose.EVALUATION))
        return StepResult(with_credit(objective, logps, self.state_for(logps), draws, training=False), logps, draws)

    def _as_batch(self, encoded: list[EncodedPair], step: int) -> tuple[list[EncodedPair], StepResult]:
        """Forward and backward pass as in the training loop; the gradient is discarded."""
        if self.degraded_spec is not None:
            used = drawn_with_share(len(encoded), self.degraded_spec.share, self.config.seed, step)
            encoded = [pair if use else replace(pair, degraded=()) for pair, use in zip(encoded, used)]
        try:
            return encoded, self.gradient(encoded, step)
        finally:
            self.forget_gradients()

    def _scored(self, encoded: Sequence[EncodedPair], results: Sequence[tuple[list[EncodedPair], StepResult]]) -> Scored:
        terms = [pd.DataFrame(host_terms(result.credited)) for _, result in results]
        rows = [row for batch, result in results for row in token_rows(batch, result)]
        cells = [(r.pair, r.side, r.ids, r.logps, r.ref_logps, r.credit, r.pilot) for r in rows]
        index = pd.Index([pair.id for pair in encoded], name="pair")
        cut = {p.id: {"chosen": p.chosen_cut, "rejected": p.rejected_cut, "prompt": p.prompt_cut} for p in encoded}
        return Scored(
            self.step,
            pd.concat(terms, ignore_index=True).set_index(index),
            pd.DataFrame(cells, columns=TOKEN_COLUMNS),
            {id: sides for id, sides in cut.items() if any(sides.values())},
        )
