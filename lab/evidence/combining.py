"""Combine several kinds of evidence about labels into one score and a probability that the label is flipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SHARES = np.linspace(0.0, 0.49, 50)
"""Shares of flipped labels that are considered, all equally probable before the labels are seen; at one half labels say nothing."""

WEIGHT_SCALE = 2.0
"""OURS: scale of the half-normal prior of each weight, in log-odds per standard deviation of its evidence. With a larger one weak
evidence is taken for strong evidence about many flipped labels, with a smaller one many flipped labels for weak evidence."""

INTERVAL = (0.025, 0.975)
"""Quantiles of the share that bound its interval."""


@dataclass(frozen=True)
class Combined:
    """Combined evidence about N labels.

    margin:      Log-odds that the chosen answer is the better one, before its label is looked at, float64 [N].
    probability: Probability that the label is flipped, averaged over the shares of flipped labels, float64 [N]; it falls with
        the margin.
    if_few, if_many: The same probability if the share is at the lower and at the upper end of its interval, float64 [N].
    weights:     Weight of each kind of evidence, in log-odds per standard deviation.
    noise:       Posterior mean of the share of flipped labels.
    interval:    95 % credible interval of that share; wide where the labels do not tell it.
    gain:        Log-likelihood of the labels above that of labels by chance, at the best share, in nats.
    """

    margin: np.ndarray
    probability: np.ndarray
    if_few: np.ndarray
    if_many: np.ndarray
    weights: dict[str, float]
    noise: float
    interval: tuple[float, float]
    gain: float


@dataclass(frozen=True)
class _Posterior:
    """Distribution of the shares.

    shares:  Probability of each of `SHARES`, float64 [S].
    weights: Most probable weights of the K kinds of evidence at each share, float64 [S, K].
    gain:    As in `Combined`.
    """

    shares: np.ndarray
    weights: np.ndarray
    gain: float

    def quantile(self, level: float) -> int:
        """Return the number of the share below or at which this part of the distribution lies."""
        return int(np.searchsorted(self.shares.cumsum(), level))


def combine(held_out: Mapping[str, np.ndarray], everywhere: Mapping[str, np.ndarray]) -> Combined:
    """Weigh evidence by how well it predicts the labels of pairs that it has not seen.

    The labels are taken for a Bradley-Terry model's whose answers are exchanged with a probability of `noise`, the same for every
    pair (Natarajan et al. 2013): P(label) = (1 - noise) sigmoid(z) + noise sigmoid(-z), with z a weighted sum of the held-out
    margins. Labels alone do not tell the share where the evidence is weak: labels that are all right and hard to predict, and
    labels that are easy to predict and often exchanged, look the same. So every share is kept, with its posterior probability
    after the weights (not negative) are integrated out by Laplace's method, and the probability of a flip is averaged over them.

    OURS: the weights are then applied to the margins of all models, which average more of them, with the spread and the mean of the
    held-out sum. The models that were trained on a pair favour its label, and matching the mean takes that away.

    Args:
        held_out: Margins by models that were fitted without the pair, by kind, [N] each.
        everywhere: Margins by all models, for the same kinds.
    """
    names = list(held_out)
    columns = np.stack([_scaled(held_out[name]) for name in names])
    posterior = _posterior(columns)
    weights = posterior.shares @ posterior.weights
    predicted = weights @ columns
    margin = _matched(weights @ np.stack([_scaled(everywhere[name]) for name in names]), predicted)
    spread = float(predicted.std())
    slopes = (posterior.weights @ columns).std(1) / spread if spread > 0 else np.ones(len(SHARES))

    def flipped(number: int) -> np.ndarray:
        wrong, right = SHARES[number] * _sigmoid(-slopes[number] * margin), (1 - SHARES[number]) * _sigmoid(slopes[number] * margin)
        return np.asarray(wrong / (wrong + right))

    ends = [posterior.quantile(level) for level in INTERVAL]
    return Combined(
        margin,
        sum((share * flipped(number) for number, share in enumerate(posterior.shares)), np.zeros_like(margin)),
        flipped(ends[0]),
        flipped(ends[1]),
        dict(zip(names, map(float, weights))),
        float(posterior.shares @ SHARES),
        (float(SHARES[ends[0]]), float(SHARES[ends[1]])),
        posterior.gain,
    )


def _posterior(columns: np.ndarray) -> _Posterior:
    """Return the posterior of the share for evidence [K, N] in units of its standard deviation."""
    from scipy.optimize import minimize

    kinds = len(columns)
    evidence, fitted, gains = [], [], []
    latest = np.ones(kinds)
    for share in SHARES:

        def loss(weights: np.ndarray, share: float = share) -> tuple[float, np.ndarray]:
            likely, slope = _likelihood(weights, share, columns)
            prior = weights / WEIGHT_SCALE**2
            return float(weights @ prior / 2 - np.log(likely).sum()), prior - columns @ (slope / likely)

        starts = (latest, np.full(kinds, 3.0))  # the likelihood may have two maxima
        results = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * kinds) for start in starts]
        best = min(results, key=lambda result: float(result.fun))
        latest = best.x
        likely, slope = _likelihood(latest, share, columns)
        information = (columns * (slope**2 / (likely * (1 - likely)))) @ columns.T + np.eye(kinds) / WEIGHT_SCALE**2
        evidence.append(-best.fun - np.linalg.slogdet(information)[1] / 2)
        fitted.append(latest)
        gains.append(float(np.log(2 * likely).sum()))
    shares = np.exp(np.array(evidence) - max(evidence))
    return _Posterior(shares / shares.sum(), np.stack(fitted), max(gains))


def _likelihood(weights: np.ndarray, share: float, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each label and its derivative by the weighted sum, [N] each."""
    right = _sigmoid(weights @ columns)
    likely = np.clip((1 - share) * right + share * (1 - right), 1e-12, 1 - 1e-12)
    return likely, (1 - 2 * share) * right * (1 - right)


def _matched(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return values with the mean and the standard deviation of `target`."""
    deviation = values.std()
    scaled = values * (target.std() / deviation) if deviation > 0 else values
    return np.asarray(scaled + (target.mean() - scaled.mean()))


def _scaled(values: np.ndarray) -> np.ndarray:
    deviation = values.std()
    return values / deviation if deviation > 0 else np.zeros_like(values)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
