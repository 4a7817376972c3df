"""What a run's degree head (SPO) makes of the degraded answers of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lab.pairs import Pair, degrade
from lab.training.step import pair_logps

from .examined import Examined

SOURCES = {"chosen": ("chosen",), "rejected": ("rejected",), "both": ("chosen", "rejected")}
"""Which answers an objective degrades, by its `DegradedSpec.source`; samples of the policy are none of the pair's."""


@dataclass(frozen=True)
class DegreeGuess:
    """One degraded answer. side: of the answer it was made from.   degree: the true one.   probabilities: the head's, [N]."""

    side: str
    degree: int
    probabilities: np.ndarray


def degree_guesses(model: Examined, pair: Pair) -> list[DegreeGuess]:
    """The head's probabilities for every degraded answer of the pair; none where the answers have too few key phrases.

    Raises ValueError for a text that tokenizer or model refuse.
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
