"""The reference's token log-probs of any text: from the cache that runs share where they are there, else computed.

What is computed here stays here. An entry that a run computes in a batch of its own can differ in its last bits, and no number
of a run may depend on who looked at it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lab.policy import Policy, PromptAnswer, ReferenceCache, reference_model


class References:
    """The reference of one policy.

    folder: of the cache that runs share; it is only read.   model: folder or hub id of what the policy began as.
    untouched: the policy is its own reference still.
    Not for several threads at once.
    """

    def __init__(self, folder: Path, policy: Policy, model: str, *, untouched: bool) -> None:
        self._policy, self._model, self._untouched = policy, model, untouched
        self._shared = ReferenceCache(folder, policy)
        self._place = TemporaryDirectory(prefix="lab-whatif-")
        self._own = ReferenceCache(Path(self._place.name), policy)
        self._frozen: Policy | None = None

    def prepare(self, completions: Sequence[PromptAnswer]) -> int:
        """Compute what is not known yet; returns how many entries that were.

        An adapter is switched off for it. Under full fine-tuning the original model is read once more, the first time, and kept.
        Raises ModelError where it cannot be read any more.
        """
        missing = [c for c in completions if not self._shared.holds(c) and not self._own.holds(c)]
        return self._own.prepare(self._reference(), missing) if missing else 0

    def __call__(self, completion: PromptAnswer) -> np.ndarray:
        """Token log-probs of a completion, float32 [T] nats. Raises KeyError if it was not prepared."""
        return (self._own if self._own.holds(completion) else self._shared).lookup(completion)

    def _reference(self) -> Policy:
        if self._untouched or self._policy.adapter:
            return self._policy
        if self._frozen is None:
            with reference_model(self._policy, self._model) as found:
                self._frozen = found
        return self._frozen
