"""Scalars and token rows of a step, under TRL's metric names where TRL has one."""

from __future__ import annotations

import numpy as np

from lab.glossary import SCALAR_OF_TERM
from lab.objectives import Credited, PairLogps, degree_confusion
from lab.store import TokenRow
from lab.training.data.encoded_pairs import EncodedPair

from .step import StepResult


def host_terms(credited: Credited) -> dict[str, np.ndarray]:
    """Return every pair term as a NumPy array, float32 [B], with one copy from the device."""
    import torch

    terms = credited.outcome.terms
    table = torch.stack([value.float() for value in terms.values()]).cpu().numpy()
    return dict(zip(terms, table))


def batch_scalars(terms: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the batch mean of every term, with reward margin and accuracy, under TRL's names.

    NaN means that a pair does not have the term (SPO: no degraded answer); such pairs are left out of its mean, and a term that no
    pair has is left out. A loss of NaN makes the mean loss NaN.
    """
    means = {
        name: float(values.mean() if name == "loss" else values[~np.isnan(values)].mean())
        for name, values in terms.items()
        if name == "loss" or not np.isnan(values).all()
    }
    scalars = {SCALAR_OF_TERM.get(name, name): mean for name, mean in means.items()}
    margins = terms["reward_chosen"] - terms["reward_rejected"]
    scalars["rewards/margins"] = float(margins.mean())
    scalars["rewards/accuracies"] = float((margins > 0).mean())
    return scalars


def degree_scalars(result: StepResult) -> dict[str, float]:
    """Return SPO's confusion matrix over the batch's degraded answers: a count for each (true degree, predicted degree)."""
    degraded = result.logps.degraded
    if degraded is None:
        return {}
    counts = degree_confusion(degraded).tolist()
    return {f"degree_confusion/{true}/{predicted}": float(n) for true, row in enumerate(counts) for predicted, n in enumerate(row)}


def token_rows(pairs: list[EncodedPair], result: StepResult) -> list[TokenRow]:
    """Return token log-probs, credit and pilot mask (SGDPO) of both answers of every pair, without padding."""
    rows = []
    for side in ("chosen", "rejected"):
        logps = _host(result.logps, side)
        ref = _host(result.logps, f"ref_{side}")
        credit = getattr(result.credited, side).float().cpu().numpy()
        pilot = result.credited.outcome.token_terms.get(f"pilot_{side}")
        marks = None if pilot is None else pilot.cpu().numpy()
        for number, pair in enumerate(pairs):
            ids = np.asarray(getattr(pair, side).answer, np.int32)
            length = len(ids)
            rows.append(
                TokenRow(
                    pair.id,
                    side,
                    ids,
                    logps[number, :length],  # type: ignore[index]
                    None if ref is None else ref[number, :length],
                    credit[number, :length],
                    None if marks is None else marks[number, :length],
                )
            )
    return rows


def _host(logps: PairLogps, name: str) -> np.ndarray | None:
    value = getattr(logps, name)
    return None if value is None else value.float().cpu().numpy()
