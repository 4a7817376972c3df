"""The reference model itself, for the few moments when log-probs from the cache are not enough: looks at sampled answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .loading import ModelError, load_policy, weights_hash
from .policy import Policy


@contextlib.contextmanager
def reference_model(policy: Policy, source: str) -> Iterator[Policy]:
    """A Policy whose `reference()` is the reference of `policy`, for as long as the block lasts.

    With an adapter it is the policy itself, which only has to be switched off. Under full fine-tuning the weights are read again
    from `source` and freed at the end: 4 bytes a parameter more for a moment in which there are no activations, rather than
    for the whole run. Raises ModelError where they cannot be read any more, or are not those the run began with.
    """
    if policy.adapter:
        yield policy
        return
    found = load_policy(source, device=str(policy.device), precision="float32" if policy.autocast is None else "bfloat16")
    if found.fingerprint != policy.fingerprint:
        raise ModelError(
            f"The model in {source} is not the one this run began with, so it is no reference for it; put the old one back."
        )
    found.use_layout_of(policy)
    found.moment = policy.moment
    yield found


def is_untouched(policy: Policy) -> bool:
    """Whether the policy still is its own reference, weight for weight. Reads all of them: ask before the first step only."""
    if policy.adapter:  # B = 0 in every pair of matrices, so that B A adds nothing
        return all(not bool(p.detach().any()) for name, p in policy.parameters().items() if "lora_B" in name)
    return weights_hash(policy.model) == policy.fingerprint
