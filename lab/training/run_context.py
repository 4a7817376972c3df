"""The context of a run: model, pairs and reference, as the training loop and the evaluations use them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from lab.objectives import DegradedSpec
from lab.policy import Encoder, Policy, PromptAnswer, ReferenceCache, sample_answers
from lab.run.config import TrainConfig
from lab.training.data.encoded_pairs import EncodedPair, degrade_answer
from lab.training.data.random_streams import Purpose, drawn_with_share, generator
from lab.training.data.training_pairs import TrainingPairs
from lab.training.evaluation.panel import Panel


@dataclass
class RunContext:
    """Everything that a run works with besides its optimizer.

    Attributes:
        config: Settings in use.
        policy: The model in training.
        encoder: Text to token ids.
        data: The pair set in use.
        cache: Reference log-probs by content.
        degraded_spec: The degraded answers that the objective needs (SPO), or None.
        degree_head: SPO's head, or None.
        panel: Held-out pairs that are followed through the run.
    """

    config: TrainConfig
    policy: Policy
    encoder: Encoder
    data: TrainingPairs
    cache: ReferenceCache
    degraded_spec: DegradedSpec | None = None
    degree_head: nn.Module | None = None
    panel: Panel = field(default_factory=Panel)

    def batch(self, step: int) -> list[EncodedPair]:
        """Return the pairs of optimizer step `step` (1-based), with degraded answers for the share of pairs that gets them."""
        config = self.config
        pairs = [self.data.encoded[number] for number in self.data.schedule.batch(step)]
        if self.degraded_spec is None:
            return pairs
        used = drawn_with_share(len(pairs), self.degraded_spec.share, config.seed, step)
        if self.degraded_spec.source == "sampled":
            return self._with_sampled_answers(step, pairs, used, self.degraded_spec)
        return [pair if use else replace(pair, degraded=()) for pair, use in zip(pairs, used)]

    def reference(self, completion: PromptAnswer) -> np.ndarray | None:
        """Return the reference's token log-probs, float32 [T].

        None for an answer that was sampled in mid-run under full fine-tuning: the reference is no longer in memory.
        """
        if self._sampled_without_reference and not self.cache.holds(completion):
            return None
        return self.cache.lookup(completion)

    @property
    def _sampled_without_reference(self) -> bool:
        return self.degraded_spec is not None and self.degraded_spec.source == "sampled" and not self.policy.adapter

    def _with_sampled_answers(
        self, step: int, pairs: list[EncodedPair], used: list[bool], degraded_spec: DegradedSpec
    ) -> list[EncodedPair]:
        """Degrade an answer that the policy samples now (SPO's source "sampled")."""
        texts = {pair.id: self.data.pairs[pair.id] for pair in pairs}
        prompts = [texts[pair.id].context for pair, use in zip(pairs, used) if use]
        seed = generator(self.config.seed, step, Purpose.SAMPLED_DEGRADED).initial_seed()
        answers = iter(sample_answers(self.policy, prompts, seed=seed, max_length=self.config.max_length) if prompts else [])
        batch = []
        for pair, use in zip(pairs, used):
            degraded = list(pair.degraded) if use else []  # of pairs with an annotated degree
            if use:
                degraded += degrade_answer(next(answers)[0], texts[pair.id], self.encoder, pair.chosen.prompt, degraded_spec)
            batch.append(replace(pair, degraded=tuple(degraded)))
        if self.policy.adapter:
            self.cache.prepare(self.policy, [answer.completion for pair in batch for answer in pair.degraded])
        return batch


def new_degree_head(policy: Policy, degraded_spec: DegradedSpec, seed: int) -> nn.Module:
    """Return SPO's head as a run begins with it: a linear layer from a hidden state to one score per degree."""
    head = nn.Linear(policy.hidden_size, degraded_spec.degrees)
    with torch.no_grad():
        head.weight.normal_(0, policy.hidden_size**-0.5, generator=generator(seed, 0, Purpose.HEAD_WEIGHTS))
        head.bias.zero_()
    return head.to(policy.device)
