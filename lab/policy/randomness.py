"""The global random generator, for the libraries that know no other: one user at a time, and nobody sees it changed."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence

import torch

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def global_generator(seed: int, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Inside, torch's global generators (the CPU's and those of `devices`) start from `seed`; afterwards they are as before.

    Other threads that ask for it wait, so that two runs in one process draw what each would draw alone.
    """
    with _one_at_a_time, torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


def hashed_seed(number: int) -> int:
    """63 bits that are different for every number; 0 stays 0."""
    return int.from_bytes(hashlib.blake2b(str(number).encode(), digest_size=8).digest(), "big") & (2**63 - 1) if number else 0
