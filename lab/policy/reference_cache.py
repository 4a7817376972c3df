"""Cache of the reference's token log-probs on disk, by content.

The key of an entry is made of the reference weights, the precision, the way of computing (layout, kernel, device, versions of torch
and transformers) and the token ids. So an edited pair misses one entry, another learning rate none, and runs of the same model
share entries where they compute alike. A missing entry raises an error.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from filelock import FileLock, Timeout
from torch import Tensor

from .interruption import CountProgress
from .layout import PromptAnswer
from .policy import Policy

VERSION = 2
"""Version of the folder. Keys of version 1 did not contain the layout, so its entries are not read."""


class ReferenceCache:
    """Token log-probs of one reference model, on disk in `folder`.

    Several processes may open it, and threads with an object each. Open it after the policy's layout is chosen, and call
    `use_layout_of` where that changes.
    """

    def __init__(self, folder: Path, policy: Policy) -> None:
        folder = folder / f"v{VERSION}"
        folder.mkdir(parents=True, exist_ok=True)
        self.use_layout_of(policy)
        path = self._path = folder / f"{policy.fingerprint}.sqlite"
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        with FileLock(f"{path}.lock"):  # while a file changes to WAL mode, SQLite refuses other connections without waiting
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS logps (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            self._db.commit()
        self._db.execute("PRAGMA synchronous=NORMAL")

    def use_layout_of(self, policy: Policy) -> None:
        """Read and write entries of the policy's current layout."""
        self._layout = policy.layout_key
        versions = f"{torch.__version__}:{transformers.__version__}"
        self._prefix = f"{policy.fingerprint}:{policy.autocast}:{self._layout}:{versions}:".encode()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def prepare(
        self,
        policy: Policy,
        completions: Sequence[PromptAnswer],
        *,
        tokens_per_batch: int | None = None,
        progress: CountProgress | None = None,
        exclusive: bool = False,
    ) -> int:
        """Compute and store the missing entries; returns their number.

        Which completions are computed together changes the last bits of a log-prob, so batches depend on the set of missing
        completions alone, not on their order.

        Args:
            policy: Must be able to compute as its own reference: with an adapter (switched off here), or not trained yet.
            completions: Prompts with answers.
            tokens_per_batch: By default 2,048 on the CPU, whose activations fit into the cache (a third faster than 8,192 on 2
                cores), and up to 131,072 on a GPU, fewer for wide models.
            progress: Called after every batch; while another process is waited for, as progress(0, total).
            exclusive: Wait while another process computes entries of the same model, and use those: runs that start at the same
                moment then get the same bits as runs that start one after another. Not for processes that compute together.

        Raises:
            RuntimeError: The policy's layout is not the one of this cache (see `use_layout_of`).
        """
        if policy.layout_key != self._layout:
            raise RuntimeError(
                f"The policy computes in the layout {policy.layout_key}, the cache in {self._layout}; call use_layout_of first."
            )
        missing = self._missing(completions)
        if not missing or not exclusive:
            return self._compute(policy, missing, tokens_per_batch, progress)
        lock = FileLock(f"{self._path}.computing.lock")
        while True:
            try:
                lock.acquire(timeout=1)
                break
            except Timeout:
                if progress is not None:
                    progress(0, len(missing))
        try:
            still = self._missing(list(missing.values()))  # another process may have computed some meanwhile
            return self._compute(policy, still, tokens_per_batch, progress)
        finally:
            lock.release()

    def _missing(self, completions: Sequence[PromptAnswer]) -> dict[bytes, PromptAnswer]:
        """Return the completions without an entry by their keys, in an order that depends on their content alone."""
        keyed = {self._key(completion): completion for completion in completions}
        return {key: keyed[key] for key in sorted(keyed) if not self.holds(keyed[key])}

    def _compute(
        self, policy: Policy, missing: dict[bytes, PromptAnswer], tokens_per_batch: int | None, progress: CountProgress | None
    ) -> int:
        done = 0
        if tokens_per_batch is None:
            tokens_per_batch = 2048 if policy.device.type == "cpu" else max(8192, min(1 << 17, (1 << 27) // policy.hidden_size))
        waiting: tuple[list[tuple[bytes, PromptAnswer]], Tensor] | None = None
        for batch in [*_batches(missing, tokens_per_batch), None]:
            computing = None
            if batch is not None:
                with policy.evaluating(), policy.reference():
                    computing = batch, policy.logps([completion for _, completion in batch]).logps
            if waiting is not None:  # a GPU computes the next batch while this one is written
                done += self._keep(*waiting)
                if progress is not None:
                    progress(done, len(missing))
            waiting = computing
        return len(missing)

    def _keep(self, batch: Sequence[tuple[bytes, PromptAnswer]], logps: Tensor) -> int:
        """Store a computed batch; returns the number of entries."""
        values = logps.cpu().numpy()
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO logps VALUES (?, ?)",
                [(key, values[row, : len(completion.answer)].tobytes()) for row, (key, completion) in enumerate(batch)],
            )
        return len(batch)

    def lookup(self, completion: PromptAnswer) -> np.ndarray:
        """Return the token log-probs of one completion, float32 [T]. Raises KeyError if it was not prepared."""
        value = self._read(self._key(completion))
        if value is None or len(value) != 4 * len(completion.answer):
            raise KeyError(
                "The reference log-probs of a completion were not computed before the run; start the run again to compute them."
            )
        return np.frombuffer(value, np.float32)

    def holds(self, completion: PromptAnswer) -> bool:
        """Return whether the completion was prepared; a damaged entry counts as missing and is computed again."""
        value = self._read(self._key(completion))
        return value is not None and len(value) == 4 * len(completion.answer)

    def _read(self, key: bytes) -> bytes | None:
        row = self._db.execute("SELECT value FROM logps WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _key(self, completion: PromptAnswer) -> bytes:
        digest = hashlib.blake2b(self._prefix, digest_size=16)
        digest.update(np.asarray(completion.prompt, np.int32).tobytes())
        digest.update(b"|")
        digest.update(np.asarray(completion.answer, np.int32).tobytes())
        if completion.untrained:  # whose log-probs are stored as 0
            digest.update(b"|" + repr(completion.untrained).encode())
        return digest.digest()


def _batches(missing: dict[bytes, PromptAnswer], tokens: int) -> Iterator[list[tuple[bytes, PromptAnswer]]]:
    """Split completions into batches of about `tokens` tokens: those of one prompt together, in order of length."""
    groups: dict[Sequence[int], list[tuple[bytes, PromptAnswer]]] = {}
    for key, completion in missing.items():
        groups.setdefault(completion.prompt_key, []).append((key, completion))
    batch: list[tuple[bytes, PromptAnswer]] = []
    held = 0
    for prompt, group in sorted(groups.items(), key=lambda item: len(item[0]) + max(len(c.answer) for _, c in item[1])):
        length = len(prompt) * len(group) + sum(len(c.answer) for _, c in group)
        if batch and held + length > tokens:
            yield batch
            batch, held = [], 0
        batch += group
        held += length
    if batch:
        yield batch
