"""The reference's token log-probs of any text: from the cache that runs share, or computed.

Computed entries are not written to the shared cache: they can differ in their last bits from those that a run computes in its own
batches, and a run's numbers must not depend on whether it was examined.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lab.policy import Policy, PromptAnswer, ReferenceCache, reference_model


class References:
    """Token log-probs of the reference of one policy. Not safe for several threads at once.

    Args:
        folder: Folder of the shared cache, which is only read.
        policy: The policy.
        model: Folder or hub id of the model that the policy was initialized with.
        untouched: Whether the policy still equals its reference.
    """

    def __init__(self, folder: Path, policy: Policy, model: str, *, untouched: bool) -> None:
        self._policy, self._model, self._untouched = policy, model, untouched
        self._shared = ReferenceCache(folder, policy)
        self._place = TemporaryDirectory(prefix="lab-whatif-")
        self._own = ReferenceCache(Path(self._place.name), policy)
        self._frozen: Policy | None = None

    def prepare(self, completions: Sequence[PromptAnswer]) -> int:
        """Compute the log-probs of completions that are in no cache, and return their number.

        With an adapter, the policy computes them without it. After full fine-tuning, the original model is loaded the first time
        and kept. Raises ModelError if it cannot be loaded.
        """
        missing = [c for c in completions if not self._shared.holds(c) and not self._own.holds(c)]
        return self._own.prepare(self._reference(), missing) if missing else 0

    def __call__(self, completion: PromptAnswer) -> np.ndarray:
        """Return the token log-probs of a completion in nats, float32 [T]. Raises KeyError if it was not prepared."""
        return (self._own if self._own.holds(completion) else self._shared).lookup(completion)

    def _reference(self) -> Policy:
        if self._untouched or self._policy.adapter:
            return self._policy
        if self._frozen is None:
            with reference_model(self._policy, self._model) as model:
                self._frozen = model
        return self._frozen
