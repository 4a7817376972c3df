"""Objectives with a target for each answer instead of a comparison of the two: NCA, BCO, SPPO, APO, KTO."""

from __future__ import annotations

import math
from typing import ClassVar

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, parameter
from lab.objectives.registry import register

from .shared import LN2, H, ls, reference_strength


@register
class NCA(Objective):
    """Noise Contrastive Alignment for pairs: raise the chosen reward towards a finite optimum, lower the rejected one.

    Terms: logit = β h, which the loss itself does not use. Losses are in nats.

    Known to fail: the chosen reward is held near its finite optimum, so margins stay small.
    """

    name: ClassVar[str] = "nca_pair"
    title: ClassVar[str] = "Noise Contrastive Alignment (pairs)"
    source: ClassVar[str] = "Chen et al. 2024, arXiv 2402.05369"
    formula: ClassVar[str] = """
        r_w = beta * log_x1
        r_l = beta * log_x2
        loss = -log_sigmoid(r_w) - 1/2 * log_sigmoid(-r_w) - 1/2 * log_sigmoid(-r_l)
        """
    first_step_value: ClassVar[float | None] = 2 * LN2

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        w, l = self.beta * p.X1, self.beta * p.X2
        return Outcome(-ls(w) - 0.5 * ls(-w) - 0.5 * ls(-l), {"logit": w - l}), state


@register
class BCO(Objective):
    """Binary Classifier Optimization for pairs: one binary classifier of single answers with the reward as logit.

    `delta`, δ, shifts both rewards: z₁ = β log X₁ - δ, z₂ = -(β log X₂ - δ).

    Terms: logit_chosen and logit_rejected, the arguments of the two sigmoids; logit, their sum = β h. Losses are in nats.

    Paper and libraries differ: the paper and older TRL shift by a running mean of the rewards, TRL 1.x does not (δ = 0).
    """

    name: ClassVar[str] = "bco_pair"
    title: ClassVar[str] = "Binary Classifier Optimization (pairs)"
    source: ClassVar[str] = "Jung et al. 2024, arXiv 2404.04656"

    beta: float = reference_strength()
    delta: float = parameter(0.0, "Shift of both rewards, in units of β times a log-ratio.", symbol="δ")

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        shift = " - delta" if self.delta else ""
        return f"""
            logit_chosen = beta * log_x1{shift}
            logit_rejected = -(beta * log_x2{shift})
            loss = -log_sigmoid(logit_chosen) - log_sigmoid(logit_rejected)
            """

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        w, l = self.beta * p.X1 - self.delta, -(self.beta * p.X2 - self.delta)
        return Outcome(-ls(w) - ls(l), {"logit": w + l, "logit_chosen": w, "logit_rejected": l}), state

    @override
    def first_step_loss(self) -> float:
        return abs(self.delta) + 2 * math.log1p(math.exp(-abs(self.delta)))


@register
class SPPO(Objective):
    """Self-Play Preference Optimization with hard labels: pull each log-ratio to its own target, ±1/(2β).

    Eq. 4.7 of the paper with P = 1 and 0 and η = 1/β.

    Terms: logit = h; target_margin = 1/β, in nats. Losses are in nats².

    Known to fail: log-ratios are sums, so a target means less for a longer answer.
    """

    name: ClassVar[str] = "sppo_hard"
    title: ClassVar[str] = "Self-Play Preference Optimization (hard labels)"
    source: ClassVar[str] = "Wu et al. 2024, arXiv 2405.00675, Eq. 4.7"
    formula: ClassVar[str] = "loss = (log_x1 - 1/(2*beta))**2 + (log_x2 + 1/(2*beta))**2"
    presets: ClassVar = {"paper": Preset({"beta": 0.001}, "arXiv 2405.00675, experiments: η = 1e3", 5e-7)}

    beta: float = parameter(
        0.1, "Inverse of the target for the difference of the log-ratios; 1/η in the paper.", symbol="β", unit="1/nats", gt=0
    )

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        losses = (p.X1 - 0.5 / self.beta) ** 2 + (p.X2 + 0.5 / self.beta) ** 2
        return Outcome(losses, {"logit": p.h, "target_margin": torch.full_like(p.h, 1 / self.beta)}), state

    @override
    def first_step_loss(self) -> float:
        return 0.5 / self.beta**2


@register
class APOZero(Objective):
    """Anchored Preference Optimization, zero: raise the chosen answer and lower the rejected one.

    For chosen answers that are better than the model's own. Equal to the paper's equation up to a constant.

    Terms: logit = β h. Losses are in [0, 2].

    Known to fail: far from the reference the gradient vanishes.
    """

    name: ClassVar[str] = "apo_zero"
    title: ClassVar[str] = "Anchored Preference Optimization, zero"
    source: ClassVar[str] = "D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 7"
    formula: ClassVar[str] = "loss = sigmoid(-beta * log_x1) + sigmoid(beta * log_x2)"
    first_step_value: ClassVar[float | None] = 1.0

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        losses = (-self.beta * p.X1).sigmoid() + (self.beta * p.X2).sigmoid()
        return Outcome(losses, {"logit": self.beta * p.h}), state


@register
class APODown(Objective):
    """Anchored Preference Optimization, down: lower the chosen answer, and the rejected one more.

    For chosen answers that are worse than the model's own. Equal to the paper's equation up to a constant.

    Terms: logit = β h. Losses are in [0, 2].

    Known to fail: used on good answers it unlearns them.
    """

    name: ClassVar[str] = "apo_down"
    title: ClassVar[str] = "Anchored Preference Optimization, down"
    source: ClassVar[str] = "D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 8"
    formula: ClassVar[str] = f"{H}\nloss = sigmoid(beta * log_x1) + sigmoid(-beta * h)"
    first_step_value: ClassVar[float | None] = 1.0

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * p.h
        return Outcome((self.beta * p.X1).sigmoid() + (-logit).sigmoid(), {"logit": logit}), state


@register
class KTO(Objective):
    """Kahneman-Tversky Optimization for pairs: compare each answer with the mean log-ratio of the batch's other side.

    K_w and K_l are sg[max(0, mean over the batch)] of log X1 and log X2; the batch is that of this process. The two halves are
    averaged, so that the mean over B pairs equals that of the original 2B losses.

    Terms: logit_chosen and logit_rejected, β (log X1 - K_l) and β (K_w - log X2); logit, their mean. Losses are in [0, 1].

    Paper and code differ: the first public code differentiates K, the paper holds it constant, as this does; later code estimates K
    from unrelated completions.

    Known to fail: K is noise in small batches.
    """

    name: ClassVar[str] = "kto_pair"
    title: ClassVar[str] = "Kahneman-Tversky Optimization (pairs)"
    source: ClassVar[str] = "Ethayarajh et al. 2024, arXiv 2402.01306; paired form of its first public code"
    formula: ClassVar[str] = """
        K_w = sg(max(0, mean(log_x1)))
        K_l = sg(max(0, mean(log_x2)))
        logit_chosen = beta * (log_x1 - K_l)
        logit_rejected = beta * (K_w - log_x2)
        loss = 1/2 * sigmoid(-logit_chosen) + 1/2 * sigmoid(-logit_rejected)
        """
    first_step_value: ClassVar[float | None] = 0.5
    couples_pairs: ClassVar[bool] = True

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        K_w, K_l = p.X1.detach().mean().relu(), p.X2.detach().mean().relu()
        w, l = self.beta * (p.X1 - K_l), self.beta * (K_w - p.X2)
        return Outcome(((-w).sigmoid() + (-l).sigmoid()) / 2, {"logit": (w + l) / 2, "logit_chosen": w, "logit_rejected": l}), state
