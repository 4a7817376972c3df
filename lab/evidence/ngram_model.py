"""A Bradley-Terry model on word n-grams: the cheapest model of which answer is preferred, fitted with held-out folds.

It knows words and short phrases only. On templated or stylised data that is most of what there is to know; on free text it is
little, and `lab.evidence.combining` weighs it accordingly.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.pairs import Pair, answer_text
from lab.pairs.checks.texts import words

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BUCKETS = 2**16
LONGEST_NGRAM = 3
PENALTIES = (30.0, 100.0, 300.0)
"""Weights of the squared norm that are tried; the one with the best held-out likelihood is used."""
ITERATIONS = 60


@dataclass(frozen=True)
class NgramMargins:
    """Log-odds of the labels under the n-gram model, float64 [N] each.

    held_out: By the model that was fitted without the pair's fold.
    everywhere: Mean over the models of all folds.
    """

    held_out: np.ndarray
    everywhere: np.ndarray


def ngram_margins(pairs: Sequence[Pair], folds: np.ndarray) -> NgramMargins:
    """Fit a Bradley-Terry model (Bradley & Terry 1952) on differences of n-gram counts, once without each fold.

    Args:
        pairs: N pairs.
        folds: Fold of each pair, int [N].
    """
    features = _differences(pairs)
    best: tuple[float, NgramMargins] | None = None
    for penalty in PENALTIES:
        by_fold = np.stack([features @ _fit(features[folds != fold], penalty) for fold in np.unique(folds)])
        held_out = by_fold[np.searchsorted(np.unique(folds), folds), np.arange(len(pairs))]
        loss = float(np.logaddexp(0, -held_out).mean())
        if best is None or loss < best[0]:
            best = loss, NgramMargins(held_out, by_fold.mean(0))
    assert best is not None
    return best[1]


def _differences(pairs: Sequence[Pair]) -> csr_matrix:
    """Return counts of hashed n-grams in the chosen answer minus those in the rejected one, and the difference of lengths."""
    from scipy.sparse import csr_matrix

    values: list[float] = []
    columns: list[int] = []
    ends = [0]
    for pair in pairs:
        chosen, rejected = words(answer_text(pair.chosen)), words(answer_text(pair.rejected))
        counts = Counter(_ngrams(chosen))
        counts.subtract(_ngrams(rejected))
        for column, count in counts.items():
            if count:
                columns.append(column)
                values.append(count)
        columns.append(BUCKETS)
        values.append((len(chosen) - len(rejected)) / 20)
        ends.append(len(columns))
    present, numbers = np.unique(columns, return_inverse=True)
    return csr_matrix((np.asarray(values), numbers, ends), shape=(len(pairs), len(present)))


def _ngrams(text: Sequence[str]) -> list[int]:
    return [
        zlib.crc32(" ".join(text[start : start + length]).encode("utf-8", "surrogatepass")) % BUCKETS
        for length in range(1, LONGEST_NGRAM + 1)
        for start in range(len(text) - length + 1)
    ]


def _fit(features: csr_matrix, penalty: float) -> np.ndarray:
    """Return the weights with the least mean loss log(1 + exp(-z)) and squared norm."""
    from scipy.optimize import minimize

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = features @ weights
        gradient = -(features.T @ (1 / (1 + np.exp(np.clip(logits, -500, 500))))) + penalty * weights
        return float(np.logaddexp(0, -logits).sum() + penalty / 2 * (weights @ weights)), gradient

    start = np.zeros(features.shape[1])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}).x)
