"""Derivatives of a loss by log X₁ and log X₂, compared with autograd through a real model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lab.objectives import Draws, Objective, PairLogps, State, with_credit
from lab.objectives.field import no_degraded

from .pair_numbers import PairNumbers, pair_logps
from .small_batch import state_of
from .world_pairs import PAIRS, WORLD, WorldPairs, world_pairs

if TYPE_CHECKING:
    import pandas as pd


def compare_partials(
    objective: Objective, model: str = WORLD, pairs: int = PAIRS, seed: int = 0, *, evenly: bool = True
) -> pd.DataFrame:
    """Compare the derivatives of the Learn page with autograd through a real model, pair by pair, in float64.

    The model is that of the embedded world after a few steps of DPO on the pairs; its reference is the model before them. All
    parameters are θ. Autograd gives three gradients by θ for every pair: of the loss, and of the log-probs log π(y_w|x) and
    log π(y_l|x) of both answers. The reference does not depend on θ, so a loss that sees each answer only through its summed
    log-prob satisfies, by the chain rule,

        dL/dθ = dL/dlog X₁ · dlog π(y_w|x)/dθ + dL/dlog X₂ · dlog π(y_l|x)/dθ .

    The two factors that fit dL/dθ best (least squares over all parameters) are the model's derivatives; `residual` is the share
    of dL/dθ that they leave, 0 if the equation holds. The page's derivatives come from the pair's numbers alone: a pair at the
    same point, with lengths and reference of the real one, whose tokens all move evenly.

    A loss that weighs the tokens of an answer differently has a residual. A loss whose value depends on single tokens (SGDPO's
    pilots are sums over some of them) has other derivatives where the real tokens are not even; with `evenly` False the
    page's derivatives are those of the pair's real token log-ratios.

    Args:
        objective: The objective. Moving statistics are those after one step on the pairs; each pair is a batch of its own.
        model: "world", a folder or a hub id.
        pairs: Number of pairs of the embedded world.
        seed: Seed of the choice of pairs and of the objective's random draws.
        evenly: Whether the page's tokens move evenly, or are the real ones.

    Returns:
        One row per pair, index `pair` from 1: log_x1, log_x2 (nats), tokens_chosen, tokens_rejected, d_log_x1_page,
        d_log_x1_model, d_log_x1_difference, the same three for d_log_x2, and residual.

    Raises:
        ModelError: The model cannot be loaded.
        ValueError: There are not so many pairs, or what the objective raises.
    """
    import pandas as pd

    world = world_pairs(model, pairs, seed)
    numbers = _numbers(world)
    state = state_of(objective, numbers, seed=seed)
    rows = [_compare(objective, world, number, numbers[number], state, seed, evenly) for number in range(len(numbers))]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="pair"))


def _numbers(world: WorldPairs) -> list[PairNumbers]:
    with torch.no_grad():
        p = world.logps()
    x1, x2, n_w, n_l = p.X1.tolist(), p.X2.tolist(), p.n_w.tolist(), p.n_l.tolist()
    ref = list(zip((p.R_w / p.n_w).tolist(), (p.R_l / p.n_l).tolist()))
    return [PairNumbers(a, b, (n, m), level) for a, b, n, m, level in zip(x1, x2, n_w, n_l, ref)]


def _compare(
    objective: Objective, world: WorldPairs, number: int, numbers: PairNumbers, state: State, seed: int, evenly: bool
) -> dict[str, float]:
    real = _with_degrees(objective, world.logps([number]))
    page = pair_logps([numbers], objective) if evenly else real.map(Tensor.detach)
    draws = objective.draw(page, torch.Generator().manual_seed(seed))
    terms = with_credit(objective, page, state, draws, training=False).outcome.terms
    of_page = (-float(terms["weight_chosen"]), float(terms["weight_rejected"]))
    of_model, residual = _through_model(objective, world, real, state, draws)
    row: dict[str, float] = {"log_x1": numbers.log_x1, "log_x2": numbers.log_x2}
    row |= {"tokens_chosen": numbers.tokens[0], "tokens_rejected": numbers.tokens[1]}
    for name, one, other in zip(("d_log_x1", "d_log_x2"), of_page, of_model):
        row |= {f"{name}_page": one, f"{name}_model": other, f"{name}_difference": one - other}
    return row | {"residual": residual}


def _through_model(
    objective: Objective, world: WorldPairs, pair: PairLogps, state: State, draws: Draws
) -> tuple[tuple[float, float], float]:
    """The factors of the two answers' gradients in that of the loss, and the relative norm of what they leave."""
    parameters = [p for p in world.model.parameters() if p.requires_grad]

    def gradient(value: Tensor) -> Tensor:
        parts = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    outcome, _ = objective(pair, state, draws, training=False)
    of_loss = gradient(outcome.losses.sum())
    sides = torch.stack([gradient(pair.S_w.sum()), gradient(pair.S_l.sum())], -1)
    factors = torch.linalg.lstsq(sides, of_loss[:, None]).solution[:, 0]
    norm = float(of_loss.norm())
    left = float((of_loss - sides @ factors).norm()) / norm if norm > 0 else 0.0
    return (float(factors[0]), float(factors[1])), left


def _with_degrees(objective: Objective, pair: PairLogps) -> PairLogps:
    spec = objective.degraded_spec()
    return pair if spec is None else replace(pair, degraded=no_degraded(len(pair), spec.degrees))
