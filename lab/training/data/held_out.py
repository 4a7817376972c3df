"""Held-out pairs: how they are chosen, and their terms under an objective."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from lab.objectives import Objective, PairLogps, State
from lab.pairs import Pair
from lab.pairs.pair import to_bytes, to_json
from lab.policy import Policy
from lab.training.step import Reference, concatenate, pair_logps

from .encoded_pairs import EncodedPair
from .random_streams import Purpose, generator
from .statistics import without_spread


def split(pairs: Iterable[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split pairs by prompt; return (pairs to train on, in their order; held-out pairs, by the hash of their prompt).

    A prompt is held out with all of its pairs when the hash of the prompt and the seed is below `share`. The choice does not depend
    on other pairs, so adding, editing or dropping some never moves others. Nothing is held out of a set that would be left empty.

    Args:
        pairs: The pair set.
        share: Share of the prompts to hold out, in [0, 1].
        seed: Seed of the run.
    """
    drawn = [(_draw(pair, seed), pair) for pair in pairs]
    training = [pair for at, pair in drawn if at >= share]
    if not training:
        return [pair for _, pair in drawn], []
    return training, [pair for at, pair in sorted(drawn, key=lambda item: item[0]) if at < share]


def _draw(pair: Pair, seed: int) -> float:
    """Return a number in [0, 1), the same for every pair with this prompt."""
    digest = hashlib.blake2b(to_bytes(f"{seed}|{to_json(pair.prompt)}"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def held_out_terms(
    policy: Policy,
    objective: Objective,
    pairs: Sequence[EncodedPair],
    state: State,
    *,
    reference: Reference | None,
    degree_head: torch.nn.Module | None = None,
    batch_size: int = 8,
    micro_batch_size: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Return every term of the objective for N held-out pairs, float32 [N] each (see `Outcome.terms`).

    The objective is called with training=False: its state stays unchanged, there are no gradients and no dropout. Its random draws
    (SGDPO's pilots) are equal in every evaluation, so that changes come from the policy only.

    Args:
        policy: The policy.
        objective: The objective.
        pairs: The held-out pairs.
        state: The objective's state.
        reference: Looks up reference log-probs, or None.
        degree_head: SPO's head, or None.
        batch_size: Pairs per call of the objective, as in training.
        micro_batch_size: Pairs per forward pass; None for `batch_size`.
        seed: Seed of the run.
        progress: Receives (pairs done, pairs in total) after every batch; may raise to stop.
    """
    batches = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        size = micro_batch_size or batch_size
        with policy.evaluating():
            parts = [batch[first : first + size] for first in range(0, len(batch), size)]
            logps = concatenate([pair_logps(policy, objective, part, reference, degree_head) for part in parts])
        batches.append(logps)
        if progress is not None:
            progress(min(start + batch_size, len(pairs)), len(pairs))
    if objective.needs_dataset and not state:
        state = without_spread(objective.dataset_state(batches))  # before the first step there are no statistics yet
    terms = [_terms(objective, logps, state, generator(seed, number, Purpose.EVALUATION)) for number, logps in enumerate(batches)]
    return {name: torch.cat([batch[name].float() for batch in terms]).cpu().numpy() for name in terms[0]}


def _terms(objective: Objective, logps: PairLogps, state: State, rng: torch.Generator) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        outcome, _ = objective(logps, state, objective.draw(logps, rng), training=False)
    return outcome.terms
