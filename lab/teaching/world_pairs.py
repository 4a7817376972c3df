"""Pairs of the embedded world under its model after a few steps of DPO, in float64, with gradients through the model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lab.objectives import DPO, PairLogps

WORLD = "world"
PAIRS = 20
STEPS, RATE = 4, 5e-4
"""Steps and learning rate of AdamW before the numbers are read: enough for log-ratios of several nats. OURS."""

MAX_LENGTH = 512

_LOCK = threading.Lock()


@dataclass(frozen=True)
class TokenPair:
    """A pair as token ids: two prompts (equal unless cut) and two answers, chosen first."""

    prompts: tuple[tuple[int, ...], tuple[int, ...]]
    answers: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(eq=False)
class WorldPairs:
    """Pairs with a model that has moved away from its reference.

    Attributes:
        model: A causal language model in float64, in evaluation mode.
        tokenizer: Its tokenizer.
        pairs: The pairs.
        steps: Steps of DPO on these pairs that the model has done.
        ref: Log-probs of every pair under the model before the first step, as `PairLogps.chosen` and `.rejected`, float64 [B, T].
    """

    model: Any
    tokenizer: Any
    pairs: tuple[TokenPair, ...]
    steps: int = 0
    ref: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        with torch.no_grad():
            chosen, rejected = (self._side(side, range(len(self.pairs)))[0] for side in (0, 1))
        self.ref = (chosen, rejected)

    def logps(self, rows: Sequence[int] | None = None) -> PairLogps:
        """Return the token log-probs of some pairs (None: all) with gradient to the model, float64 [B, T]."""
        rows = range(len(self.pairs)) if rows is None else rows
        (chosen, chosen_mask), (rejected, rejected_mask) = (self._side(side, rows) for side in (0, 1))
        ref_chosen, ref_rejected = (ref[list(rows), : values.shape[1]] for ref, values in zip(self.ref, (chosen, rejected)))
        aligned = (chosen.detach(), rejected.detach())
        return PairLogps(chosen, rejected, chosen_mask, rejected_mask, ref_chosen, ref_rejected, *aligned)

    def train(self, steps: int) -> None:
        """Take steps of DPO on all pairs with AdamW."""
        optimizer, objective = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=0.0), DPO()
        for _ in range(steps):
            optimizer.zero_grad()
            outcome, _ = objective(self.logps(), {}, {}, training=True)
            outcome.losses.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        optimizer.zero_grad()
        self.steps += steps

    def _side(self, side: int, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Log-probs [B, T] and mask of one side, in one forward pass; padding on the right is seen by no earlier token."""
        prompts = [self.pairs[row].prompts[side] for row in rows]
        answers = [self.pairs[row].answers[side] for row in rows]
        width, longest = max(len(p) + len(a) for p, a in zip(prompts, answers)), max(map(len, answers))
        ids = torch.zeros(len(prompts), width, dtype=torch.int64)
        index = torch.zeros(len(prompts), longest, dtype=torch.int64)
        mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
        for number, (prompt, answer) in enumerate(zip(prompts, answers)):
            ids[number, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
            index[number, : len(answer)] = torch.arange(len(prompt), len(prompt) + len(answer))
            mask[number, : len(answer)] = True
        every = self.model(input_ids=ids, use_cache=False).logits[:, :-1].log_softmax(-1)
        of_tokens = every.gather(-1, ids[:, 1:, None]).squeeze(-1)
        return torch.where(mask, of_tokens.gather(1, (index - 1).clamp(min=0)), 0.0), mask


def world_pairs(model: str = WORLD, pairs: int = PAIRS, seed: int = 0) -> WorldPairs:
    """Load a model with pairs of the embedded world and take a few steps of DPO on them. The latest two are kept.

    Args:
        model: "world", a folder or a hub id.
        pairs: Number of pairs.
        seed: Seed of the choice of pairs.

    Raises:
        ModelError: The model cannot be loaded.
        ValueError: There are not so many pairs.
    """
    with _LOCK:  # many pages may open at once: one of them prepares the model
        return _kept(model, pairs, seed)


@lru_cache(2)
def _kept(model: str, pairs: int, seed: int) -> WorldPairs:
    from lab.policy import load_policy
    from lab.world import model_source, open_world

    world = open_world()
    rows = world.pairs()
    if not 1 <= pairs <= len(rows):
        raise ValueError(f"The embedded world has {len(rows)} pairs; give 1 to {len(rows)}, not {pairs}.")
    policy = load_policy(model_source(model), device="cpu")
    policy.use_plain_rows()  # the model's own attention, which is independent of the way in which a run computes
    encoder = policy.encoder(MAX_LENGTH)
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:pairs].tolist()
    encoded = [encoder.together(rows[number]["prompt"], [rows[number]["chosen"], rows[number]["rejected"]]) for number in chosen]
    tokens = tuple(TokenPair((one.prompt, other.prompt), (one.answer, other.answer)) for one, other in encoded)
    result = WorldPairs(policy.model.double().eval(), policy.tokenizer, tokens)
    result.train(STEPS)
    return result
