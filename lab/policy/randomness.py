"""Seeded use of torch's global generators, for libraries that accept no other generator."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence

import torch

_lock = threading.RLock()


@contextlib.contextmanager
def global_generator(seed: int, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Seed torch's global generators (of the CPU and of `devices`) inside the block and restore them afterwards.

    Only one thread at a time can be inside, so that two runs in one process draw the same numbers as each would alone.
    """
    with _lock, torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


def hashed_seed(number: int) -> int:
    """Return a 63-bit hash of a number as a seed; 0 stays 0."""
    return int.from_bytes(hashlib.blake2b(str(number).encode(), digest_size=8).digest(), "big") & (2**63 - 1) if number else 0
