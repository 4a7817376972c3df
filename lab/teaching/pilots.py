"""Random draws of an objective on one pair: the present one, and the distribution over many (SGDPO's pilots)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from lab.objectives import Draws, Objective, PairLogps, State, with_credit
from lab.objectives.field import no_degraded
from lab.plots.landscapes.computed import on_one_core

if TYPE_CHECKING:
    import pandas as pd

    from lab.objectives import Credited

USUAL = ("pilot_chosen", "pilot_rejected", "weight_chosen", "weight_rejected")
"""Terms that a distribution has even if they do not vary, where the objective has them."""


@dataclass(frozen=True, eq=False)
class CurrentDraw:
    """One draw of an objective on one pair.

    Attributes:
        draws: What was drawn, each [1, ...].
        masks: Drawn tokens by name (SGDPO: pilot_chosen and pilot_rejected), one bool per token of that side.
        terms: Every term of the pair with this draw, with weight_chosen and weight_rejected.
        seed: Seed of the draw.
    """

    draws: Draws
    masks: dict[str, tuple[bool, ...]]
    terms: dict[str, float]
    seed: int


def has_draws(objective: Objective) -> bool:
    """Return whether the objective draws anything at random."""
    one, mask = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.bool)
    pair = PairLogps(one, one, mask, mask, one, one, one, one)
    return bool(objective.draw(pair, torch.Generator().manual_seed(0)))


def pilot_distribution(
    objective: Objective, logps: PairLogps, row: int = 0, draws: int = 1000, seed: int = 0, *, state: State | None = None
) -> pd.DataFrame:
    """Compute the terms of one pair for many draws, in one call of the objective on the pair repeated.

    Args:
        objective: An objective that draws at random.
        logps: Token log-probs of a batch, with reference.
        row: Position of the pair in it.
        draws: Number of draws.
        seed: Seed of all draws.
        state: The objective's statistics; None for those before the first step.

    Returns:
        One row per draw: pilot_chosen, pilot_rejected (log Y₁ and log Y₂, nats), weight_chosen, weight_rejected, and every other
        term that varies.

    Raises:
        ValueError: The objective draws nothing, or compares the pairs of a batch; there is no such row or draw.
    """
    import pandas as pd

    if draws < 1:
        raise ValueError(f"{draws} draws give no distribution; ask for at least one.")
    credited, _ = on_one_core(_drawn, objective, _one(objective, logps, row), draws, seed, state)
    terms = credited.outcome.terms
    varying = [name for name, values in terms.items() if name not in USUAL and bool((values != values[0]).any())]
    columns = [name for name in USUAL if name in terms] + [name for name in varying if not torch.isnan(terms[name]).all()]
    return pd.DataFrame({name: terms[name].numpy() for name in columns}).rename_axis("draw")


def current_draw(objective: Objective, logps: PairLogps, row: int = 0, seed: int = 0, *, state: State | None = None) -> CurrentDraw:
    """Draw once for one pair and compute its terms. Arguments and errors as in `pilot_distribution`."""
    pair = _one(objective, logps, row)
    credited, drawn = on_one_core(_drawn, objective, pair, 1, seed, state)
    sides = {"chosen": pair.chosen_mask[0], "rejected": pair.rejected_mask[0]}
    masks = {
        name: tuple(values[0][sides[name.rpartition("_")[2]]].tolist())
        for name, values in credited.outcome.token_terms.items()
        if values.dtype == torch.bool and name.rpartition("_")[2] in sides
    }
    terms = {name: float(values[0]) for name, values in credited.outcome.terms.items()}
    return CurrentDraw(drawn, masks, terms, seed)


def _one(objective: Objective, logps: PairLogps, row: int) -> PairLogps:
    """One pair of a batch as a batch of one."""
    if not 0 <= row < len(logps):
        raise ValueError(f"The batch has {len(logps)} pairs, but no row {row}; give 0 to {len(logps) - 1}.")
    if not has_draws(objective):
        raise ValueError(
            f"{objective.name} draws nothing at random, so there is nothing to draw again; choose one with draws, as sgdpo."
        )
    if objective.couples(training=False):
        raise ValueError(
            f"{objective.name} compares the pairs of a batch, so one pair has no distribution of its own; choose sgdpo."
        )
    pair, spec = logps.map(lambda value: value[row : row + 1].detach()), objective.degraded_spec()
    return pair if spec is None or pair.degraded is not None else replace(pair, degraded=no_degraded(1, spec.degrees))


def _drawn(objective: Objective, pair: PairLogps, draws: int, seed: int, state: State | None) -> tuple[Credited, Draws]:
    repeated = pair.map(lambda value: value.expand(draws, *value.shape[1:]).contiguous())
    drawn = objective.draw(repeated, torch.Generator().manual_seed(seed))
    if state is None:
        state = objective.dataset_state([pair]) if objective.needs_dataset else objective.initial_state()
    return with_credit(objective, repeated, state, drawn, training=False), drawn
