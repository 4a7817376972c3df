"""Other link functions on DPO's quantity h = log X1 - log X2: hinge, IPO, robust DPO, EXO, DiscoPOP."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch.nn.functional import logsigmoid as ls

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, State, parameter, register

from .shared import LN2, flipped_share, reference_strength


@register
class Hinge(Objective):
    """L = max(0, 1 - beta h).

    Zhao et al. 2023, arXiv 2305.10425 (SLiC-HF), on log-ratios as in Liu et al. 2023, arXiv 2309.06657 (RSO).
    Returns losses [B]; terms `logit` = beta h and `target_margin` = 1. The gradient at the kink is 0.
    Known to fail: pairs beyond the margin teach nothing; SLiC's own loss has no reference and adds a likelihood term.
    """

    name: ClassVar[str] = "hinge"
    title: ClassVar[str] = "Hinge loss on log-ratios (SLiC, RSO)"
    source: ClassVar[str] = "Zhao et al. 2023, arXiv 2305.10425; Liu et al. 2023, arXiv 2309.06657"
    formula: ClassVar[str] = "L = max(0, 1 − β h)"

    beta: float = reference_strength()

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * p.h
        return Outcome(torch.relu(1 - logit), {"logit": logit, "target_margin": torch.ones_like(logit)}), state

    def first_step_loss(self) -> float:
        return 1.0


@register
class IPO(Objective):
    """L = (X1/n_w - X2/n_l - 1/(2 beta))^2, or (h - 1/(2 beta))^2 with average false; beta is the paper's tau.

    Azar et al. 2023, arXiv 2310.12036, Eq. 17. Returns losses [B]; terms `logit`, the difference that is pulled to its
    target, and `target_margin` = 1/(2 beta), both in nats per token (nats with average false).
    Paper and libraries differ: the paper prints sums; TRL averages per token and says the authors confirmed it; several
    libraries still sum. Known to fail: summed, the loss is ruled by the longest answers.
    """

    name: ClassVar[str] = "ipo"
    title: ClassVar[str] = "Identity Preference Optimization"
    source: ClassVar[str] = "Azar et al. 2023, arXiv 2310.12036, Eq. 17"
    formula: ClassVar[str] = "L = (log X1/n_w − log X2/n_l − 1/(2β))²"

    beta: float = parameter(0.1, "Half the inverse of the target difference; the paper's tau.", symbol="τ", unit="tokens/nat", gt=0)
    average: bool = parameter(True, "Average log-ratios per token; otherwise sums, as printed in the paper.", changeable=False)

    @property
    def length_normalized(self) -> bool:  # type: ignore[override]
        return self.average

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        difference = p.X1 / p.n_w - p.X2 / p.n_l if self.average else p.h
        target = 1 / (2 * self.beta)
        return Outcome(
            (difference - target) ** 2, {"logit": difference, "target_margin": torch.full_like(difference, target)}
        ), state

    def first_step_loss(self) -> float:
        return 1 / (4 * self.beta**2)


@register
class Robust(Objective):
    """L = (-(1-e) ls(beta h) + e ls(-beta h)) / (1 - 2e): unbiased when a share e of the labels is flipped; may be negative.

    Chowdhury et al. 2024, arXiv 2403.00409. Returns losses [B] in nats, term `logit` = beta h.
    Known to fail: unbounded below, so with a large e it drives well-separated pairs without end.
    """

    name: ClassVar[str] = "robust"
    title: ClassVar[str] = "Robust DPO"
    source: ClassVar[str] = "Chowdhury et al. 2024, arXiv 2403.00409"
    formula: ClassVar[str] = "L = (−(1−ε) log σ(β h) + ε log σ(−β h)) / (1 − 2ε)"

    beta: float = reference_strength()
    label_smoothing: float = flipped_share(0.1, ge=0, lt=0.5)

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        x, e = self.beta * p.h, self.label_smoothing
        return Outcome((-(1 - e) * ls(x) + e * ls(-x)) / (1 - 2 * e), {"logit": x}), state

    def first_step_loss(self) -> float:
        return LN2


@register
class EXO(Objective):
    """L = s(x)(ls(x) - log(1-e)) + s(-x)(ls(-x) - log e), x = beta h: reverse KL to the smoothed label.

    Ji et al. 2024, arXiv 2402.00856, Eq. 16. Returns losses [B] in nats, term `logit` = x. Needs e > 0.
    Libraries differ: older TRL silently took 1e-3 for e = 0, newer refuses it, as this does.
    Known to fail: a pair that is far on the wrong side gets hardly any gradient, because s(x) is flat there.
    """

    name: ClassVar[str] = "exo_pair"
    title: ClassVar[str] = "Efficient Exact Optimization (pairs)"
    source: ClassVar[str] = "Ji et al. 2024, arXiv 2402.00856, Eq. 16"
    formula: ClassVar[str] = "L = σ(x)(log σ(x) − log(1−ε)) + σ(−x)(log σ(−x) − log ε),  x = β h"

    beta: float = reference_strength()
    label_smoothing: float = flipped_share(1e-3, gt=0, le=0.5)

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        x, e = self.beta * p.h, self.label_smoothing
        losses = x.sigmoid() * (ls(x) - math.log1p(-e)) + (-x).sigmoid() * (ls(-x) - math.log(e))
        return Outcome(losses, {"logit": x}), state

    def first_step_loss(self) -> float:
        e = self.label_smoothing
        return -LN2 - (math.log1p(-e) + math.log(e)) / 2


@register
class DiscoPOP(Objective):
    """L = s(-x/tau)(-ls(x)) + s(x/tau) exp(-x), x = beta h: logistic and exponential loss, blended by the margin.

    Lu et al. 2024, arXiv 2406.08414, Eq. 5. Returns losses [B] in nats, term `logit` = x.
    The usual code multiplies exp(-x) by a sigmoid, which is inf * 0 = NaN for x below about -90; here the product is
    exp(ls(x/tau) - x). tau has to be at most 1: above, the loss itself grows without bound as exp.
    Known to fail: not convex; pairs a little on the wrong side are pushed less than pairs at 0.
    """

    name: ClassVar[str] = "discopop"
    title: ClassVar[str] = "DiscoPOP (log-ratio modulated loss)"
    source: ClassVar[str] = "Lu et al. 2024, arXiv 2406.08414, Eq. 5"
    formula: ClassVar[str] = "L = −σ(−x/τ) log σ(x) + σ(x/τ) exp(−x),  x = β h"

    beta: float = reference_strength(0.05)
    tau: float = parameter(0.05, "Temperature of the blend.", symbol="τ", recommended=(0.01, 1.0), ge=1e-3, le=1)

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        x = self.beta * p.h
        losses = -(-x / self.tau).sigmoid() * ls(x) + (ls(x / self.tau) - x).exp()
        return Outcome(losses, {"logit": x}), state

    def first_step_loss(self) -> float:
        return (LN2 + 1) / 2
