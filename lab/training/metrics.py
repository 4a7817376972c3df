"""A step's numbers, under TRL's names where TRL has one and ours beside them."""

from __future__ import annotations

import numpy as np

from lab.objectives import Credited, PairLogps, degree_confusion
from lab.store import TokenRow
from lab.training.data.encoded_pairs import EncodedPair

from .step import StepResult

TRL_NAMES = {
    "loss": "loss",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "logps_chosen": "logps/chosen",
    "logps_rejected": "logps/rejected",
}
"""Our pair terms whose batch mean is one of TRL's metrics."""


def host_terms(credited: Credited) -> dict[str, np.ndarray]:
    """Every pair term as float32 [B] on the host, in one copy."""
    import torch

    terms = credited.outcome.terms
    table = torch.stack([value.float() for value in terms.values()]).cpu().numpy()
    return dict(zip(terms, table))


def batch_scalars(terms: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the batch, accuracy and margin. NaN in a term means that a pair has no such number (SPO: no weakened answer):
    it does not count, and a term that no pair has gives no scalar. A loss that is NaN stays NaN."""
    means = {
        name: float(values.mean() if name == "loss" else values[~np.isnan(values)].mean())
        for name, values in terms.items()
        if name == "loss" or not np.isnan(values).all()
    }
    scalars = {TRL_NAMES.get(name, name): mean for name, mean in means.items()}
    margins = terms["reward_chosen"] - terms["reward_rejected"]
    scalars["rewards/margins"] = float(margins.mean())
    scalars["rewards/accuracies"] = float((margins > 0).mean())
    return scalars


def degree_scalars(result: StepResult) -> dict[str, float]:
    """SPO: counts of (true degree, the head's first choice) over the batch's weakened answers, one scalar a cell."""
    degraded = result.logps.degraded
    if degraded is None:
        return {}
    counts = degree_confusion(degraded).tolist()
    return {f"degree_confusion/{true}/{said}": float(n) for true, row in enumerate(counts) for said, n in enumerate(row)}


def token_rows(pairs: list[EncodedPair], result: StepResult) -> list[TokenRow]:
    """Token log-probs, credit and pilot choice of every pair of the step, cut to each answer's own length."""
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
