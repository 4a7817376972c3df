"""Exercises of lesson 05: the target margin of AlphaDPO, its stop-gradient, and SimPO as a special case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lab.objectives import OBJECTIVES, Objective, PairLogps, State, make_objective, pairs_at, with_credit

from .judging import number
from .registry import Verdict, exercise

BETA, GAMMA_BETA_RATIO, ALPHA = 2.5, 0.6, 0.05
"""Settings of the exercises on AlphaDPO's margin."""

GAPS = (1.0, 2.0, 3.0)
"""Gaps of the batch of exercise 05.1, in nats per token; the question is about the last pair."""

TOKENS, REF = (8, 8), (-4.0, -3.0)
"""Lengths and reference log-probs (nats per token) of the batches; the sides differ, so that gap and policy difference differ."""


@exercise("05.1")
def margin(answer: Any) -> Verdict:
    """Target margin of the last of three pairs, in units of the logit."""
    objective = make_objective(
        "alpha_dpo", beta=BETA, gamma_beta_ratio=GAMMA_BETA_RATIO, alpha=ALPHA, normalize="batch", reference="ratio"
    )
    gaps = torch.tensor(GAPS, dtype=torch.float64)
    batch = pairs_at(objective, TOKENS[0] * gaps, torch.zeros_like(gaps), tokens=TOKENS, ref=REF)
    terms = objective(batch, objective.initial_state(), {}, training=True)[0].terms
    right, z, gap = (float(terms[name][-1]) for name in ("target_margin", "z", "gap"))
    of_population = float((gaps[-1] - gaps.mean()) / gaps.std(correction=0))
    return number(
        answer,
        right,
        why=f"z = {z:.3g}, so the margin is {BETA:g} · ({GAMMA_BETA_RATIO:g} + {ALPHA:g} · {z:.3g}) = {right:.4g}.",
        wrong=[
            (right / BETA, "This is the margin in nats per token; the logit multiplies the whole margin by β."),
            (
                BETA * GAMMA_BETA_RATIO + ALPHA * z,
                "α stands inside β here, as in the released code; this is the α of the paper's Eq. 12.",
            ),
            (BETA * (GAMMA_BETA_RATIO + ALPHA * gap), "This takes the gap itself; α multiplies its z-score over the batch."),
            (
                BETA * (GAMMA_BETA_RATIO + ALPHA * of_population),
                "This divides the squares by n in the std; the lab divides by n − 1.",
            ),
            (
                BETA * GAMMA_BETA_RATIO,
                "This is SimPO's margin, and that of a pair with z = 0; here the gap is above the mean.",
            ),
        ],
        otherwise="Compute z from the three gaps first (std with n − 1), then β · (γ/β + α z).",
        relative=0.005,
    )


@exercise("05.2")
def threshold(answer: Any) -> Verdict:
    """Spread of the gap below which AlphaDPO without the stop-gradient pushes the chosen answer down."""
    right = _sign_change(ALPHA)
    return number(
        answer,
        right,
        why=f"The push is multiplied by 1 − α/std. At std = {right:.3g} nats per token it is 0, and below it the loss lowers the "
        "chosen answer.",
        wrong=[
            (0.0, "z grows by 1/std for each nat per token of gap: the smaller the spread, the more the margin runs away."),
            (BETA * ALPHA, "β multiplies the whole logit, difference and margin alike, so it cannot change the sign."),
            (GAMMA_BETA_RATIO, "γ/β is a constant: it does not enter the derivative of the margin."),
            (1.0, "At std = 1 the margin grows by α for each nat per token that the gap grows: less than the difference itself."),
        ],
        otherwise="The difference grows by 1 for each nat per token, the margin by α/std. When are they equal?",
        relative=0.01,
        absolute=1e-4,
    )


@exercise("05.3")
def as_simpo(answer: Any) -> Verdict:
    """Parameters with which AlphaDPO is SimPO with its defaults, on every batch."""
    if not isinstance(answer, Mapping):
        return Verdict(False, f'{answer!r} is not a dictionary of parameters; write one such as {{"alpha": 0.1}}.')
    known = OBJECTIVES["alpha_dpo"].model_fields
    if unknown := [key for key in answer if key not in known]:
        return Verdict(False, f"AlphaDPO has no parameter {unknown[0]!r}; it has {', '.join(known)}.")
    try:
        objective = make_objective("alpha_dpo", **answer)
    except ValueError as error:
        return Verdict(False, str(error))
    simpo = make_objective("simpo")
    for seed in range(8):
        batch = _random_batch(simpo, seed)
        losses = [_losses(one, batch) for one in (objective, simpo)]
        if not torch.allclose(losses[0], losses[1], rtol=1e-9, atol=0):
            far = int((losses[0] - losses[1]).abs().argmax())
            values = f"A pair of a random batch has the loss {losses[0][far]:.4f}; SimPO has {losses[1][far]:.4f}."
            return Verdict(False, f"{values} {_difference(objective, simpo)}")
    return Verdict(True, "With α = 0 the margin is β · γ/β for every pair, so the two losses are equal on every batch.")


def _sign_change(alpha: float) -> float:
    """Return the std of the gap at which the push on the chosen side changes its sign, by bisection on autograd."""
    objective = make_objective(
        "alpha_dpo", beta=BETA, gamma_beta_ratio=GAMMA_BETA_RATIO, alpha=alpha, normalize="dataset", stop_gradient=False, eps=0.0
    )
    pair = pairs_at(objective, torch.zeros(1).double(), torch.zeros(1).double(), tokens=TOKENS, ref=REF)
    low, high = 1e-6, 10.0
    for _ in range(60):
        std = (low + high) / 2
        state: State = {"mean": torch.tensor(0.0).double(), "std": torch.tensor(std).double()}
        pushed_up = float(with_credit(objective, pair, state, {}, training=True).outcome.terms["weight_chosen"]) > 0
        low, high = (low, std) if pushed_up else (std, high)
    return (low + high) / 2


def _random_batch(objective: Objective, seed: int) -> PairLogps:
    rng = torch.Generator().manual_seed(seed)
    log_x1, log_x2 = torch.randn(2, 6, generator=rng, dtype=torch.float64).mul(6).unbind()
    return pairs_at(objective, log_x1, log_x2, tokens=TOKENS, ref=REF)


def _losses(objective: Objective, batch: PairLogps) -> torch.Tensor:
    state = objective.dataset_state([batch])
    return objective(batch, state, {}, training=True)[0].losses


def _difference(objective: Objective, simpo: Objective) -> str:
    """Say which setting keeps an AlphaDPO from being SimPO."""
    own, other = objective.spec(), simpo.spec()
    if own["alpha"] != 0:
        kept = {"normalize": "none", "reference": "policy", "gamma_beta_ratio": 0.0}
        tried = next((key for key, value in kept.items() if own[key] == value), None)
        reasons = {
            "normalize": "Without normalisation the margin still follows the gap; only α makes it constant.",
            "reference": "Without the reference the margin still follows the policy's own difference; only α makes it constant.",
            "gamma_beta_ratio": "γ is SimPO's own margin; what AlphaDPO adds to it is α z.",
        }
        return reasons[tried] if tried else "The margin still depends on the pair: look for the factor of z."
    if not own["length_normalize"]:
        return "SimPO averages over the tokens of an answer."
    names = [name for name in ("beta", "gamma_beta_ratio") if own[name] != other[name]]
    where = "see lab.OBJECTIVES['simpo'].__doc__"
    return f"The margin is constant now, but {' and '.join(names)} differ from SimPO's defaults; {where}."
