"""Losses with other link functions of h = log X1 - log X2 than DPO: hinge, IPO, robust DPO, EXO, DiscoPOP."""

from __future__ import annotations

import math
from typing import ClassVar

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, State, parameter
from lab.objectives.registry import register

from .shared import LN2, H, flipped_share, ls, reference_strength


@register
class Hinge(Objective):
    """Hinge loss on the difference of log-ratios (SLiC-HF, RSO).

    SLiC's own loss has no reference and adds a likelihood term; the form on log-ratios is RSO's.

    Terms: logit = β h; target_margin = 1. The gradient at the kink is 0.

    Known to fail: pairs beyond the margin have no gradient.
    """

    name: ClassVar[str] = "hinge"
    title: ClassVar[str] = "Hinge loss on log-ratios (SLiC, RSO)"
    source: ClassVar[str] = "Zhao et al. 2023, arXiv 2305.10425; Liu et al. 2023, arXiv 2309.06657"
    formula: ClassVar[str] = f"{H}\nloss = max(0, 1 - beta * h)"
    first_step_value: ClassVar[float | None] = 1.0

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * p.h
        return Outcome(torch.relu(1 - logit), {"logit": logit, "target_margin": torch.ones_like(logit)}), state


@register
class IPO(Objective):
    """Identity Preference Optimization: squared distance of the difference of log-ratios from the target 1/(2β).

    β is the paper's τ. With `average` false the log-ratios are sums, L = (h - 1/(2β))².

    Terms: logit, the difference of the log-ratios; target_margin = 1/(2β); both in nats per token (nats with `average` false).

    Paper and libraries differ: the paper prints sums; TRL averages per token and cites a confirmation by the authors; several
    libraries still use sums.

    Known to fail: with sums the longest answers dominate the loss.
    """

    name: ClassVar[str] = "ipo"
    title: ClassVar[str] = "Identity Preference Optimization"
    source: ClassVar[str] = "Azar et al. 2023, arXiv 2310.12036, Eq. 17"

    beta: float = parameter(
        0.1,
        "Half the inverse of the target for the difference of the log-ratios; τ in the paper.",
        symbol="β",
        unit="tokens/nat",
        gt=0,
    )
    average: bool = parameter(True, "Average log-ratios per token; otherwise sums, as printed in the paper.", changeable=False)

    @property
    @override
    def length_normalized(self) -> bool:  # type: ignore[override]
        return self.average

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        if self.average:
            return "loss = (log_x1 / n_w - log_x2 / n_l - 1/(2*beta))**2"
        return f"{H}\nloss = (h - 1/(2*beta))**2"

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        difference = p.X1 / p.n_w - p.X2 / p.n_l if self.average else p.h
        target = 1 / (2 * self.beta)
        return Outcome(
            (difference - target) ** 2, {"logit": difference, "target_margin": torch.full_like(difference, target)}
        ), state

    @override
    def first_step_loss(self) -> float:
        return 1 / (4 * self.beta**2)


@register
class Robust(Objective):
    """Robust DPO: an unbiased estimate of DPO's loss where a share ε of the labels is flipped.

    Terms: logit = β h. Losses are in nats and may be negative.

    Known to fail: the loss is unbounded below, so with a large ε well-separated pairs are driven apart without end.
    """

    name: ClassVar[str] = "robust"
    title: ClassVar[str] = "Robust DPO"
    source: ClassVar[str] = "Chowdhury et al. 2024, arXiv 2403.00409"
    first_step_value: ClassVar[float | None] = LN2

    beta: float = reference_strength()
    label_smoothing: float = flipped_share(0.1, ge=0, lt=0.5)

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        if not self.label_smoothing:
            return f"{H}\nloss = -log_sigmoid(beta * h)"
        return f"""
            {H}
            x = beta * h
            loss = (-(1 - label_smoothing) * log_sigmoid(x) + label_smoothing * log_sigmoid(-x)) / (1 - 2*label_smoothing)
            """

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        x, e = self.beta * p.h, self.label_smoothing
        return Outcome((-(1 - e) * ls(x) + e * ls(-x)) / (1 - 2 * e), {"logit": x}), state


@register
class EXO(Objective):
    """Efficient Exact Optimization for pairs: reverse KL divergence between the policy's preference and the smoothed label.

    Terms: logit = x. Losses are in nats. ε must be above 0.

    Libraries differ: older TRL silently took 1e-3 for ε = 0, newer TRL refuses it, as this does.

    Known to fail: a pair far on the wrong side has hardly any gradient, because σ(x) is flat there.
    """

    name: ClassVar[str] = "exo_pair"
    title: ClassVar[str] = "Efficient Exact Optimization (pairs)"
    source: ClassVar[str] = "Ji et al. 2024, arXiv 2402.00856, Eq. 16"
    formula: ClassVar[str] = f"""
        {H}
        x = beta * h
        loss = (sigmoid(x) * (log_sigmoid(x) - log(1 - label_smoothing))
            + sigmoid(-x) * (log_sigmoid(-x) - log(label_smoothing)))
        """

    beta: float = reference_strength()
    label_smoothing: float = flipped_share(1e-3, gt=0, le=0.5)

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        x, e = self.beta * p.h, self.label_smoothing
        losses = x.sigmoid() * (ls(x) - math.log1p(-e)) + (-x).sigmoid() * (ls(-x) - math.log(e))
        return Outcome(losses, {"logit": x}), state

    @override
    def first_step_loss(self) -> float:
        e = self.label_smoothing
        return -LN2 - (math.log1p(-e) + math.log(e)) / 2


@register
class DiscoPOP(Objective):
    """DiscoPOP (log-ratio modulated loss): logistic and exponential loss, blended by the margin.

    Terms: logit = x. Losses are in nats. The paper's second term is σ(x/τ) exp(-x), which as a product is inf * 0 = NaN for
    x below about -90; here it is exp(log σ(x/τ) - x). τ must be at most 1: above, the loss grows exponentially.

    Known to fail: the loss is not convex; pairs a little on the wrong side have a smaller gradient than pairs at 0.
    """

    name: ClassVar[str] = "discopop"
    title: ClassVar[str] = "DiscoPOP (log-ratio modulated loss)"
    source: ClassVar[str] = "Lu et al. 2024, arXiv 2406.08414, Eq. 5"
    formula: ClassVar[str] = f"""
        {H}
        x = beta * h
        loss = -sigmoid(-x / tau) * log_sigmoid(x) + exp(log_sigmoid(x / tau) - x)
        """
    first_step_value: ClassVar[float | None] = (LN2 + 1) / 2

    beta: float = reference_strength(0.05)
    tau: float = parameter(
        0.05, "Temperature at which the two losses are blended.", symbol="τ", recommended=(0.01, 1.0), ge=1e-3, le=1
    )

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        x = self.beta * p.h
        losses = -(-x / self.tau).sigmoid() * ls(x) + (ls(x / self.tau) - x).exp()
        return Outcome(losses, {"logit": x}), state
