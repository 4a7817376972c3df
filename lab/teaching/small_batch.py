"""Terms of a few pairs as one batch, and the effect of one pair on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from lab.glossary import PAIR_TERMS
from lab.objectives import Credited, Objective, PairLogps, State, with_credit
from lab.plots.landscapes.computed import on_one_core
from lab.store.terms import with_margin

from .pair_numbers import PairNumbers, pair_logps

if TYPE_CHECKING:
    import pandas as pd

Statistics = Literal["this batch", "before the first step"]
"""Statistics that an objective uses: those of the batch, as in the first training step, or those of an evaluation before it."""

Side = Literal["chosen", "rejected"]

COMPARED = ("margin", "target_margin", "z", "loss", "weight_chosen", "weight_rejected")
"""Terms whose change `influence` reports, where the objective has them."""

USUAL_BATCH = (
    PairNumbers(1.0, -1.0, (8, 8)),
    PairNumbers(2.5, -3.0, (12, 6)),
    PairNumbers(-2.0, -6.0, (6, 10)),
    PairNumbers(-4.0, -4.5, (10, 10)),
    PairNumbers(3.0, 2.0, (8, 14)),
    PairNumbers(-1.0, 3.0, (7, 9)),
)
"""Batch at the beginning: pairs that training has moved in several directions, one of them (the last) ranked wrongly."""


def batch_table(
    objective: Objective, pairs: Sequence[PairNumbers], *, seed: int = 0, statistics: Statistics = "this batch"
) -> pd.DataFrame:
    """Compute the terms of every pair of a batch.

    Statistics over a data set (AlphaDPO with normalize=dataset) are always those of the batch. The weights of an objective that
    couples the pairs are derivatives of the sum of all losses, as in training.

    Args:
        objective: The objective.
        pairs: The batch.
        seed: Seed of the objective's random draws.
        statistics: "this batch" computes the batch as the first training step would, with moving statistics updated by it;
            "before the first step" as an evaluation before that step.

    Returns:
        One row per pair, index `pair` from 1: log_ratio_chosen, log_ratio_rejected (nats), tokens_chosen, tokens_rejected, then
        every term that the objective has (see `lab.glossary`), with weight_chosen and weight_rejected (push on each side per nat
        of its log-ratio) and margin (of the rewards). Terms that no pair has are left out.

    Raises what the objective raises.
    """
    return on_one_core(_table, objective, tuple(pairs), seed, statistics)


def influence(
    objective: Objective,
    pairs: Sequence[PairNumbers],
    row: int,
    side: Side,
    change: float,
    *,
    seed: int = 0,
    statistics: Statistics = "this batch",
) -> pd.DataFrame:
    """Compute how moving one pair changes the terms of every pair of its batch, by computing the batch twice.

    Args:
        objective: The objective.
        pairs: The batch.
        row: Position of the pair that moves, from 0.
        side: Side whose log-ratio moves: "chosen" or "rejected".
        change: Change of that log-ratio, nats.
        seed: As in `batch_table`.
        statistics: As in `batch_table`.

    Returns:
        One row per pair, index `pair` from 1, with the columns <term>_before, <term>_after and <term>_difference for each of
        margin, target_margin, z, loss, weight_chosen and weight_rejected that the objective has. `influence_note` tells where
        only the moved pair changes.

    Raises:
        ValueError: There is no such row or side, or the pair moves beyond the limits.
    """
    import pandas as pd

    if not 0 <= row < len(pairs):
        raise ValueError(f"The batch has {len(pairs)} pairs, but no row {row}; give 0 to {len(pairs) - 1}.")
    if side not in ("chosen", "rejected"):
        raise ValueError(f"There is no side {side!r}; choose chosen or rejected.")
    axis = "log_x1" if side == "chosen" else "log_x2"
    moved = list(pairs)
    moved[row] = replace(pairs[row], **{axis: getattr(pairs[row], axis) + change})
    before, after = (batch_table(objective, batch, seed=seed, statistics=statistics) for batch in (pairs, moved))
    columns = {}
    for term in COMPARED:
        if term in before:
            columns[f"{term}_before"], columns[f"{term}_after"] = before[term], after[term]
            columns[f"{term}_difference"] = after[term] - before[term]
    return pd.DataFrame(columns)


def couples_pairs(objective: Objective, statistics: Statistics = "this batch") -> bool:
    """Return whether a pair's terms can depend on the other pairs of the batch, given these statistics."""
    return objective.needs_dataset or objective.couples(training=statistics == "this batch")


def influence_note(objective: Objective, statistics: Statistics = "this batch") -> str:
    """Return one sentence if moving a pair changes no other pair of the batch; "" if it can."""
    if couples_pairs(objective, statistics):
        return ""
    if couples_pairs(objective):
        return (
            f"Before the first step {objective.name} has no statistics of a batch, so moving a pair changes only its own numbers; "
            "use the statistics of this batch."
        )
    return f"{objective.name} computes the loss of every pair by itself, so moving a pair changes only its own numbers."


def state_of(objective: Objective, pairs: Sequence[PairNumbers], *, seed: int = 0, statistics: Statistics = "this batch") -> State:
    """Compute the objective's state after one training step on a batch, or before the first step.

    Statistics over a data set are those of the batch in both cases.
    """
    before = objective.initial_state()
    if objective.needs_dataset:
        return objective.dataset_state([pair_logps(pairs, objective)])
    if not before or statistics == "before the first step":
        return before
    batch = pair_logps(pairs, objective)
    with torch.no_grad():
        return objective(batch, before, objective.draw(batch, torch.Generator().manual_seed(seed)), training=True)[1]


def _credited(objective: Objective, batch: PairLogps, seed: int, statistics: Statistics) -> Credited:
    state = objective.dataset_state([batch]) if objective.needs_dataset else objective.initial_state()
    draws = objective.draw(batch, torch.Generator().manual_seed(seed))
    return with_credit(objective, batch, state, draws, training=statistics == "this batch")


def _table(objective: Objective, pairs: tuple[PairNumbers, ...], seed: int, statistics: Statistics) -> pd.DataFrame:
    import pandas as pd

    batch = pair_logps(pairs, objective)
    terms = dict(_credited(objective, batch, seed, statistics).outcome.terms)
    columns = {
        "log_ratio_chosen": terms.pop("log_ratio_chosen"),
        "log_ratio_rejected": terms.pop("log_ratio_rejected"),
        "tokens_chosen": batch.n_w,
        "tokens_rejected": batch.n_l,
    }
    known = [name for name in PAIR_TERMS if name in terms]
    columns |= {name: terms[name] for name in [*known, *(name for name in terms if name not in known)]}
    index = pd.RangeIndex(1, len(pairs) + 1, name="pair")
    table = pd.DataFrame({name: values.numpy() for name, values in columns.items()}, index=index)
    return with_margin(table.dropna(axis="columns", how="all"))
