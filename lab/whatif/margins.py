"""Reward margins of pairs under a model, and how they change when its weights change."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from lab.objectives import Objective
from lab.policy import Policy
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.step import Reference, pair_logps

COLUMNS = ["margin", "logps_chosen", "logps_rejected"]


def margins(policy: Policy, objective: Objective, batch: Sequence[EncodedPair], reference: Reference) -> pd.DataFrame:
    """Return reward margin and log-probs of both answers (nats) of every pair, float64, computed in evaluation mode.

    Args:
        policy: The model.
        objective: Defines the rewards.
        batch: The pairs, computed in one pass. Their degraded answers (SPO) change no reward; leave them out to save time.
        reference: Looks up reference log-probs.
    """
    with policy.evaluating():
        logps = pair_logps(policy, objective, batch, reference)
    chosen, rejected = objective.rewards(logps)
    return pd.DataFrame(torch.stack([chosen - rejected, logps.S_w, logps.S_l]).double().cpu().numpy().T, columns=COLUMNS)


def margin_changes(pairs: Sequence[str], before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return one row per pair, by decreasing change of the margin.

    Args:
        pairs: Ids of the pairs.
        before: Result of `margins` for these pairs, before a step.
        after: The same pairs after it.

    Returns:
        Columns pair, margin_before, margin_after, margin_change (reward), chosen_change, rejected_change (log-prob, nats).
    """
    changes = pd.DataFrame({"pair": list(pairs)})
    changes["margin_before"], changes["margin_after"] = before["margin"], after["margin"]
    changes["margin_change"] = after["margin"] - before["margin"]
    for side in ("chosen", "rejected"):
        changes[f"{side}_change"] = after[f"logps_{side}"] - before[f"logps_{side}"]
    return changes.sort_values("margin_change", ascending=False, kind="stable", ignore_index=True)
