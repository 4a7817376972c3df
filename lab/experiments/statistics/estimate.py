"""Mean of paired differences with its interval over seeds, or over seeds and prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
"""Probability that an interval misses the true value."""


@dataclass(frozen=True)
class Bound:
    """A standard error of a mean with its degrees of freedom."""

    error: float
    degrees: float


@dataclass(frozen=True)
class Estimate:
    """Mean of differences that are paired by seed, and perhaps by prompt.

    Attributes:
        mean: The mean.
        bounds: Standard errors, each with its degrees of freedom; intervals and p values use the widest.
        seeds: Number of seeds.
        prompts: Number of prompts; None where each seed has one number.
        seed_variance: Variance of one seed's mean over these prompts, including its share of the rest.
        prompt_variance: Variance of the mean that comes from the choice of the prompts, and that more seeds do not lower.
    """

    mean: float
    bounds: tuple[Bound, ...]
    seeds: int
    prompts: int | None
    seed_variance: float
    prompt_variance: float

    def half_width(self, alpha: float = LEVEL) -> float:
        """Return half of the width of the interval that misses the true value with probability `alpha`."""
        from scipy.stats import t

        return max(float(t.ppf(1 - alpha / 2, bound.degrees)) * bound.error for bound in self.bounds)

    def interval(self, alpha: float = LEVEL) -> tuple[float, float]:
        """Return the ends of the interval that misses the true value with probability `alpha`."""
        half = self.half_width(alpha)
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided p value of a mean of 0; below `alpha` exactly if the interval of `alpha` excludes 0."""
        from scipy.stats import t

        if self.mean == 0:
            return 1.0
        return max(2 * float(t.sf(abs(self.mean) / b.error, b.degrees)) if b.error > 0 else 0.0 for b in self.bounds)


def over_seeds(differences: np.ndarray) -> Estimate:
    """Return the mean of one difference per seed with Student's t interval, mean +- t s / sqrt(S).

    Args:
        differences: One per seed, [S], S at least 2.
    """
    values = np.asarray(differences, float)
    variance = float(values.var(ddof=1))
    bound = Bound(float(np.sqrt(variance / len(values))), len(values) - 1)
    return Estimate(float(values.mean()), (bound,), len(values), None, variance, 0.0)


def over_seeds_and_prompts(differences: np.ndarray) -> Estimate:
    """Return the mean of differences by seed and prompt, for which both are samples of what they might have been.

    Two crossed random effects, one value per cell: d = mean + seed + prompt + rest. The variance of the mean is estimated by
    (MS_seeds + MS_prompts - MS_rest) / (S P) from the two-way analysis of variance, with Satterthwaite's degrees of freedom
    (Satterthwaite 1946, Biometrics Bulletin 2; Searle, Casella and McCulloch 1992, section 4.4). That estimate is unsteady
    with few seeds, so the interval is never narrower than Student's over the seeds' means. OURS: in simulations with 2 to 8 seeds
    and 10 or 100 prompts, the pair covers 94 to 99 %, the combined estimate alone as few as 76 %.

    Args:
        differences: [S, P], both at least 2.
    """
    values = np.asarray(differences, float)
    seeds, prompts = values.shape
    mean = values.mean()
    by_seed, by_prompt = values.mean(1), values.mean(0)
    rest = values - by_seed[:, None] - by_prompt[None, :] + mean
    of_seeds = prompts * float(((by_seed - mean) ** 2).sum()) / (seeds - 1)
    of_prompts = seeds * float(((by_prompt - mean) ** 2).sum()) / (prompts - 1)
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (prompts - 1))
    cells = seeds * prompts
    bounds = [Bound(float(np.sqrt(of_seeds / cells)), seeds - 1)]
    together = of_seeds + of_prompts - of_rest
    if together > 0:
        least = min(seeds, prompts) - 1  # Satterthwaite's value is below it only where the difference of the squares is unsteady
        squares = of_seeds**2 / (seeds - 1) + of_prompts**2 / (prompts - 1) + of_rest**2 / ((seeds - 1) * (prompts - 1))
        bounds.append(Bound(float(np.sqrt(together / cells)), max(least, together**2 / squares)))
    return Estimate(float(mean), tuple(bounds), seeds, prompts, of_seeds / prompts, max(0.0, of_prompts - of_rest) / cells)
