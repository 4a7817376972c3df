"""Combine several kinds of evidence about labels into one score and a probability that the label is flipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LIKELIHOOD_DROP = 1.92
"""Log-likelihood (nats) below the largest at which a share of flipped labels still belongs to its 95 % interval."""

MOST_NOISE = 0.45
"""Largest share of flipped labels that is considered; at one half labels say nothing."""


@dataclass(frozen=True)
class Combined:
    """Combined evidence about N labels.

    margin:      Log-odds that the chosen answer is the better one, before its label is looked at, float64 [N].
    probability: Probability that the label is flipped, float64 [N].
    weights:     Weight of each kind of evidence, in log-odds per standard deviation.
    noise:       Estimated share of flipped labels.
    interval:    95 % interval of that share by its profile likelihood; wide where the labels do not tell it.
    """

    margin: np.ndarray
    probability: np.ndarray
    weights: dict[str, float]
    noise: float
    interval: tuple[float, float]


def combine(held_out: Mapping[str, np.ndarray], everywhere: Mapping[str, np.ndarray]) -> Combined:
    """Weigh evidence by how well it predicts the labels of pairs that it has not seen.

    The labels are taken for a Bradley-Terry model's whose answers are exchanged with a probability of `noise`: P(label) =
    (1 - noise) sigmoid(z) + noise sigmoid(-z), with z a weighted sum of the held-out margins. Weights (not negative) and noise
    have the largest likelihood. OURS: the weights are then applied to the margins of all models, which average more of them, with
    the spread of the held-out sum.

    Args:
        held_out: Margins by models that were fitted without the pair, by kind, [N] each.
        everywhere: Margins by all models, for the same kinds.
    """
    from scipy.optimize import OptimizeResult, minimize

    names = list(held_out)
    columns = np.stack([_scaled(held_out[name]) for name in names])

    def loss(parameters: np.ndarray) -> float:
        z = parameters[:-1] @ columns
        noise = parameters[-1]
        return -float(np.log((1 - noise) * _sigmoid(z) + noise * _sigmoid(-z) + 1e-12).mean())

    def fit(least: float, most: float) -> OptimizeResult:
        bounds = [(0.0, 20.0)] * len(names) + [(least, most)]
        starts = [np.array([scale] * len(names) + [min(max(noise, least), most)]) for scale, noise in ((1.0, 0.1), (3.0, 0.3))]
        return min((minimize(loss, start, method="L-BFGS-B", bounds=bounds) for start in starts), key=lambda result: result.fun)

    fitted = fit(0.0, MOST_NOISE)
    worst = fitted.fun + LIKELIHOOD_DROP / columns.shape[1]
    likely = [share for share in np.linspace(0.0, MOST_NOISE, 46) if fit(share, share).fun <= worst]
    weights, noise = fitted.x[:-1], float(fitted.x[-1])
    spread = float((weights @ columns).std())
    margin = weights @ np.stack([_scaled(everywhere[name]) for name in names])
    margin = margin * (spread / margin.std()) if margin.std() > 0 else margin
    wrong, right = noise * _sigmoid(-margin), (1 - noise) * _sigmoid(margin)
    interval = (float(min([noise, *likely])), float(max([noise, *likely])))
    return Combined(margin, wrong / (wrong + right), dict(zip(names, map(float, weights))), noise, interval)


def _scaled(values: np.ndarray) -> np.ndarray:
    deviation = values.std()
    return values / deviation if deviation > 0 else np.zeros_like(values)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
