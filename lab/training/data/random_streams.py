"""Random numbers of a run: every generator follows from the run's seed, a step and a purpose, so none is stored."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import torch

from lab.policy.randomness import hashed_seed


class Purpose(IntEnum):
    """Use of a stream of random numbers."""

    SHUFFLE = 1
    PILOT = 2
    HEAD_WEIGHTS = 3
    DEGRADED_SHARE = 4
    ANSWERS = 5
    EVALUATION = 6
    DROPOUT = 7
    SAMPLED_DEGRADED = 8


def generator(seed: int, step: int, purpose: Purpose) -> torch.Generator:
    """Return a CPU generator that depends on its three arguments only.

    Different (step, purpose) never collide for step < 2**22: PyTorch's Mersenne Twister reads the lowest 32 bits of its seed, which
    hold step and purpose; the run's seed is spread over all bits.
    """
    number = (seed * 2**20 + purpose) * 2**22 + step & (2**63 - 1)
    return torch.Generator().manual_seed(number ^ hashed_seed(seed))


@lru_cache(maxsize=4)
def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Return the numbers 0 to count - 1 in the order of an epoch (from 0)."""
    return torch.randperm(count, generator=generator(seed, epoch, Purpose.SHUFFLE)).tolist()


def drawn_with_share(count: int, share: float, seed: int, step: int) -> list[bool]:
    """Return which of a step's pairs get degraded answers (SPO): each with probability `share`."""
    return (torch.rand(count, generator=generator(seed, step, Purpose.DEGRADED_SHARE)) < share).tolist()


def step_randomness(seed: int, step: int, *, drops: bool) -> tuple[torch.Generator, int | None]:
    """Return the generator of the objective's draws in a step, and the dropout seed of the adapter (None without dropout)."""
    dropout_seed = generator(seed, step, Purpose.DROPOUT).initial_seed() if drops else None
    return generator(seed, step, Purpose.PILOT), dropout_seed
