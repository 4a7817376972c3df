"""Predictions of a run's degree head (SPO) for the degraded answers of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lab.pairs import Pair, degrade
from lab.training.step import pair_logps

from .examined import Examined

SOURCES = {"chosen": ("chosen",), "rejected": ("rejected",), "both": ("chosen", "rejected")}
"""Sides of a pair that an objective degrades, by `DegradedSpec.source`. Sampled answers belong to no side."""


@dataclass(frozen=True)
class DegreeGuess:
    """The prediction for one degraded answer.

    Attributes:
        side: Side of the answer that was degraded: chosen or rejected.
        degree: The true degree.
        probabilities: The head's probability of each degree, [N].
    """

    side: str
    degree: int
    probabilities: np.ndarray


def degree_guesses(model: Examined, pair: Pair) -> list[DegreeGuess]:
    """Return the head's probabilities for every degraded answer of a pair; none if its answers have too few key phrases.

    Raises ValueError if the tokenizer or the model cannot represent a text.
    """
    degraded = model.degraded_spec
    if degraded is None or model.degree_head is None:
        return []
    encoded = model.encode(pair)
    if not encoded.degraded:
        return []
    with model.lock:
        model.references.prepare(list(encoded.completions()))
        with model.policy.evaluating():
            logps = pair_logps(model.policy, model.objective, [encoded], model.references, model.degree_head)
    assert logps.degraded is not None
    shares = logps.degraded.head_logits[0].detach().float().softmax(-1).cpu().numpy()
    sides = [side for side in SOURCES.get(degraded.source, ()) for _ in degrade(getattr(pair, side), degraded.degrees)]
    return [DegreeGuess(side, weak.degree, row) for side, weak, row in zip(sides, encoded.degraded, shares)]
