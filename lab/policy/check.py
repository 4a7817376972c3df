"""Does taking the model apart give its own log-probs? Asked once before a run, on real completions."""

from __future__ import annotations

from collections.abc import Sequence

from .loading import Policy
from .logps import Completion, Head

TOLERANCE = 1e-2
"""Largest difference of a token log-prob (nats) that rounding explains; a missing scale or cap gives far more."""


def whole_head(policy: Policy) -> Head:
    """The model's own forward pass, logits at every position: slow and memory-hungry, but right for any model."""
    model = policy.model
    return Head(
        hidden=lambda ids, attention: model(input_ids=ids, attention_mask=attention, use_cache=False).logits,
        project=lambda logits: logits.float(),
        whole=True,
    )


def ensure_right_head(policy: Policy, completions: Sequence[Completion]) -> float:
    """Compare the split head with the model's own logits and fall back to those where they disagree.

    Returns the largest difference in nats; above TOLERANCE the policy's head has been replaced.
    """
    whole = whole_head(policy)
    split = policy.head
    with policy.evaluating():
        policy.head = whole
        expected = policy.logps(completions).logps
        policy.head = split
        found = policy.logps(completions).logps
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE:
        policy.head = whole
    return difference
