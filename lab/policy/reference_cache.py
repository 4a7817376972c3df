"""The reference's token log-probs, computed once and kept by content.

An entry is keyed by the reference weights, the precision, the way of computing (layout, kernel, device, versions of torch and
transformers) and the token ids, so an edited pair misses one entry, another learning rate misses none, and two runs on the same
model share them where they compute alike. A missing entry is an error, never a zero.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from filelock import FileLock
from torch import Tensor

from .layout import PromptAnswer
from .policy import Policy

Progress = Callable[[int, int], None]

VERSION = 2
"""Of the folder. Entries of version 1, which said nothing of the layout, may be those of another layout and are never read."""


class ReferenceCache:
    """Token log-probs of one reference model, on disk in `folder`. Safe to open from several processes and threads' own objects.

    The policy's layout has to be chosen by then; where it changes later, `use_layout_of`.
    """

    def __init__(self, folder: Path, policy: Policy) -> None:
        folder = folder / f"v{VERSION}"
        folder.mkdir(parents=True, exist_ok=True)
        self.use_layout_of(policy)
        path = folder / f"{policy.fingerprint}.sqlite"
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        with FileLock(f"{path}.lock"):  # while a file changes to WAL, SQLite turns everybody else away at once
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS logps (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            self._db.commit()
        self._db.execute("PRAGMA synchronous=NORMAL")

    def use_layout_of(self, policy: Policy) -> None:
        """Read and write entries of the layout that the policy has now."""
        self._layout = policy.layout_key
        versions = f"{torch.__version__}:{transformers.__version__}"
        self._prefix = f"{policy.fingerprint}:{policy.autocast}:{self._layout}:{versions}:".encode()

    def close(self) -> None:
        self._db.close()

    def prepare(
        self,
        policy: Policy,
        completions: Sequence[PromptAnswer],
        *,
        tokens_per_batch: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Compute what is not there yet; returns how many entries that were. `progress(done, all)` after every batch.

        tokens_per_batch: by default 2,048, whose activations stay near the processor (a third faster than 8,192 on 2 cores); on a
        GPU, which is done with so few before it is told what is next, up to 131,072, fewer for wide models.

        The policy has to be its own reference here: adapter switched off inside, or not trained yet. Raises RuntimeError for one
        that computes in another layout than the entries' own.
        """
        if policy.layout_key != self._layout:
            raise RuntimeError(f"The reference is computed in the layout {policy.layout_key}, but kept as {self._layout}.")
        missing: dict[bytes, PromptAnswer] = {}
        for completion in completions:
            key = self._key(completion)
            if key not in missing and not self.holds(completion):
                missing[key] = completion
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
        """Write what was computed; returns how many entries."""
        values = logps.cpu().numpy()
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO logps VALUES (?, ?)",
                [(key, values[row, : len(completion.answer)].tobytes()) for row, (key, completion) in enumerate(batch)],
            )
        return len(batch)

    def lookup(self, completion: PromptAnswer) -> np.ndarray:
        """Token log-probs of one completion, float32 [T]. Raises KeyError if it was not prepared."""
        value = self._read(self._key(completion))
        if value is None or len(value) != 4 * len(completion.answer):
            raise KeyError(
                "The reference log-probs of a completion were not computed before the run; start it again, they will be."
            )
        return np.frombuffer(value, np.float32)

    def holds(self, completion: PromptAnswer) -> bool:
        """True where the completion was prepared; a damaged entry does not count, so that it is computed again."""
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
        return digest.digest()


def _batches(missing: dict[bytes, PromptAnswer], tokens: int) -> Iterator[list[tuple[bytes, PromptAnswer]]]:
    """Completions behind one prompt together, those of like length next to each other, near `tokens` tokens at once."""
    groups: dict[Sequence[int], list[tuple[bytes, PromptAnswer]]] = {}
    for key, completion in missing.items():
        groups.setdefault(tuple(completion.prompt), []).append((key, completion))
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
