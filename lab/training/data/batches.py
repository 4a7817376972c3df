"""Pairs as token ids, and the random numbers of a run: each a function of the seed, the step and a purpose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from lab.objectives import DegradedSpec
from lab.pairs import Pair, degrade
from lab.policy import Encoder, PromptAnswer
from lab.policy.randomness import hashed_seed


@dataclass(frozen=True)
class DegradedAnswer:
    """An answer with part of its key phrases deleted (SPO): degree k of its source."""

    degree: int
    completion: PromptAnswer


@dataclass(frozen=True)
class EncodedPair:
    """A pair as token ids, with the weakened answers an objective asked for (K of them or none)."""

    id: str
    version: int
    chosen: PromptAnswer
    rejected: PromptAnswer
    degraded: tuple[DegradedAnswer, ...] = ()
    prompt_cut: int = 0
    chosen_cut: int = 0
    rejected_cut: int = 0
    """Tokens that did not fit."""

    @property
    def cut(self) -> int:
        """Answer tokens that did not fit, both sides together."""
        return self.chosen_cut + self.rejected_cut

    def completions(self) -> Iterable[PromptAnswer]:
        yield self.chosen
        yield self.rejected
        for weak in self.degraded:
            yield weak.completion


def encode_pair(pair: Pair, encoder: Encoder, degraded_spec: DegradedSpec | None = None) -> EncodedPair:
    """Token ids of a pair. Raises ValueError where the tokenizer cannot encode it (no chat template)."""
    chosen, rejected = encoder.together(pair.prompt, [pair.chosen, pair.rejected])
    prompt = chosen.prompt
    sources = {"chosen": [pair.chosen], "rejected": [pair.rejected], "both": [pair.chosen, pair.rejected]}
    texts = sources.get(degraded_spec.source, []) if degraded_spec else []
    return EncodedPair(
        pair.id,
        pair.version,
        PromptAnswer(prompt, chosen.answer),
        PromptAnswer(prompt, rejected.answer),
        tuple(weak for text in texts for weak in degrade_answer(text, pair, encoder, prompt, degraded_spec))
        if degraded_spec
        else (),
        prompt_cut=chosen.prompt_cut,
        chosen_cut=chosen.answer_cut,
        rejected_cut=rejected.answer_cut,
    )


def degrade_answer(
    text: str, pair: Pair, encoder: Encoder, prompt: Sequence[int], degraded_spec: DegradedSpec
) -> list[DegradedAnswer]:
    """The degraded versions of one answer, or none where it has too few key phrases."""
    room = max(encoder.max_length - len(prompt), 1)  # the prompt was cut for other answers
    return [
        DegradedAnswer(k, PromptAnswer(prompt, encoder(pair.prompt, weak).answer[:room]))
        for k, weak in enumerate(degrade(text, degraded_spec.degrees))
    ]


@lru_cache(maxsize=4)
def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The numbers 0 to count - 1 in the order of one epoch (from 0)."""
    return torch.randperm(count, generator=generator(seed, epoch, 1)).tolist()


def generator(seed: int, step: int, purpose: int) -> torch.Generator:
    """A random generator that depends on nothing but its three arguments (step below 2**22 and purpose below 2**10 stay apart).

    The CPU's generator, a Mersenne Twister, reads no more than the lowest 32 bits of its seed: there step and purpose lie, and the
    run's seed is spread over all bits on top of them.
    """
    number = (seed * 2**20 + purpose) * 2**22 + step & (2**63 - 1)
    return torch.Generator().manual_seed(number ^ hashed_seed(seed))


PILOT, DROPOUT = 2, 7
"""Purposes of random numbers; see `generator`."""


def step_randomness(seed: int, step: int, *, drops: bool) -> tuple[torch.Generator, int | None]:
    """What is random in a step: the generator of the objective's draws, and the seed of an adapter's dropout where it `drops`."""
    return generator(seed, step, PILOT), generator(seed, step, DROPOUT).initial_seed() if drops else None
