"""The reference as a `Policy`, for evaluations of sampled answers, whose log-probs are not in the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .loading import ModelError, load_policy, weights_hash
from .policy import Policy


@contextlib.contextmanager
def reference_model(policy: Policy, source: str) -> Iterator[Policy]:
    """Provide, inside the block, a Policy whose `reference()` is the reference of `policy`.

    With an adapter this is the policy itself. Under full fine-tuning the weights are read again from `source` and freed at
    the end of the block, which needs 4 bytes per parameter only while there are no activations.

    Raises:
        ModelError: The weights cannot be read, or are not those that the run started with.
    """
    if policy.adapter:
        yield policy
        return
    reference = load_policy(source, device=str(policy.device), precision="float32" if policy.autocast is None else "bfloat16")
    if reference.fingerprint != policy.fingerprint:
        raise ModelError(
            f"The model in {source} is not the one this run began with, so it cannot be its reference; restore the original model."
        )
    reference.use_layout_of(policy)
    reference.moment = policy.moment
    yield reference


def is_untouched(policy: Policy) -> bool:
    """Return whether the policy's weights equal those of its reference; reads all of them, so use it at step 0 only."""
    if policy.adapter:  # B = 0 in every pair of matrices, so that B A adds nothing
        return all(not bool(p.detach().any()) for name, p in policy.parameters().items() if "lora_B" in name)
    return weights_hash(policy.model) == policy.fingerprint
