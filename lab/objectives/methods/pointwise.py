"""Objectives that give each side its own target instead of comparing the two: NCA, BCO, SPPO, APO, KTO."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch.nn.functional import logsigmoid as ls

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, parameter, register

from .shared import LN2, reference_strength


@register
class NCA(Objective):
    """L = -ls(beta X1) - ls(-beta X1)/2 - ls(-beta X2)/2.

    Chen et al. 2024, arXiv 2402.05369. Returns losses [B] in nats, term `logit` = beta h, which is only looked at.
    Known to fail: the chosen reward is held near a finite optimum, so margins stay small.
    """

    name: ClassVar[str] = "nca_pair"
    title: ClassVar[str] = "Noise Contrastive Alignment (pairs)"
    source: ClassVar[str] = "Chen et al. 2024, arXiv 2402.05369"
    formula: ClassVar[str] = "L = −log σ(β log X1) − ½ log σ(−β log X1) − ½ log σ(−β log X2)"

    beta: float = reference_strength()

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        w, l = self.beta * p.X1, self.beta * p.X2
        return Outcome(-ls(w) - 0.5 * ls(-w) - 0.5 * ls(-l), {"logit": w - l}), state

    def first_step_loss(self) -> float:
        return 2 * LN2


@register
class BCO(Objective):
    """L = -ls(beta X1 - delta) - ls(-(beta X2 - delta)): one binary classifier of single answers.

    Jung et al. 2024, arXiv 2404.04656. Returns losses [B] in nats, terms `logit_chosen`, `logit_rejected` (what the
    two sigmoids get) and `logit`, their sum = beta h.
    Paper and libraries differ: the paper and older TRL shift by a running mean of the rewards, TRL 1.x does not; here
    the shift is a parameter, and 0 is TRL 1.x.
    """

    name: ClassVar[str] = "bco_pair"
    title: ClassVar[str] = "Binary Classifier Optimization (pairs)"
    source: ClassVar[str] = "Jung et al. 2024, arXiv 2404.04656"
    formula: ClassVar[str] = "L = −log σ(β log X1 − δ) − log σ(−(β log X2 − δ))"

    beta: float = reference_strength()
    delta: float = parameter(0.0, "Shift of both rewards, in units of beta times a log-ratio.", symbol="δ")

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        w, l = self.beta * p.X1 - self.delta, -(self.beta * p.X2 - self.delta)
        return Outcome(-ls(w) - ls(l), {"logit": w + l, "logit_chosen": w, "logit_rejected": l}), state

    def first_step_loss(self) -> float:
        return abs(self.delta) + 2 * math.log1p(math.exp(-abs(self.delta)))


@register
class SPPO(Objective):
    """L = (X1 - 1/(2 beta))^2 + (X2 + 1/(2 beta))^2: each log-ratio is pulled to its own target.

    Wu et al. 2024, arXiv 2405.00675, Eq. 4.7 with P = 1 and 0 and eta = 1/beta. Returns losses [B] in nats^2; terms
    `logit` = h and `target_margin` = 1/beta (nats). Known to fail: sums, so targets mean less for longer answers.
    """

    name: ClassVar[str] = "sppo_hard"
    title: ClassVar[str] = "Self-Play Preference Optimization (hard labels)"
    source: ClassVar[str] = "Wu et al. 2024, arXiv 2405.00675, Eq. 4.7"
    formula: ClassVar[str] = "L = (log X1 − 1/(2β))² + (log X2 + 1/(2β))²"
    presets: ClassVar = {"paper": Preset({"beta": 0.001}, "arXiv 2405.00675, experiments: η = 1e3", 5e-7)}

    beta: float = parameter(
        0.1, "Inverse of the target difference of the log-ratios; 1/η in the paper.", symbol="1/η", unit="1/nats", gt=0
    )

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        losses = (p.X1 - 0.5 / self.beta) ** 2 + (p.X2 + 0.5 / self.beta) ** 2
        return Outcome(losses, {"logit": p.h, "target_margin": torch.full_like(p.h, 1 / self.beta)}), state

    def first_step_loss(self) -> float:
        return 0.5 / self.beta**2


@register
class APOZero(Objective):
    """L = s(-beta X1) + s(beta X2): raise the chosen answer, lower the rejected one.

    D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 7, up to a constant. Returns losses [B] in [0, 2], term `logit` =
    beta h. For chosen answers better than the model's own. Known to fail: far from the reference the gradient vanishes.
    """

    name: ClassVar[str] = "apo_zero"
    title: ClassVar[str] = "Anchored Preference Optimization, zero"
    source: ClassVar[str] = "D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 7"
    formula: ClassVar[str] = "L = σ(−β log X1) + σ(β log X2)"

    beta: float = reference_strength()

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        losses = (-self.beta * p.X1).sigmoid() + (self.beta * p.X2).sigmoid()
        return Outcome(losses, {"logit": self.beta * p.h}), state

    def first_step_loss(self) -> float:
        return 1.0


@register
class APODown(Objective):
    """L = s(beta X1) + s(-beta h): lower the chosen answer too, the rejected one more.

    D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 8, up to a constant. Returns losses [B] in [0, 2], term `logit` =
    beta h. For chosen answers worse than the model's own. Known to fail: used on good answers it unlearns them.
    """

    name: ClassVar[str] = "apo_down"
    title: ClassVar[str] = "Anchored Preference Optimization, down"
    source: ClassVar[str] = "D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 8"
    formula: ClassVar[str] = "L = σ(β log X1) + σ(−β h)"

    beta: float = reference_strength()

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * p.h
        return Outcome((self.beta * p.X1).sigmoid() + (-logit).sigmoid(), {"logit": logit}), state

    def first_step_loss(self) -> float:
        return 1.0


@register
class KTO(Objective):
    """L = (s(-beta (X1 - K_l)) + s(-beta (K_w - X2))) / 2,  K = sg[max(0, mean over the batch)] of X1 and X2.

    Ethayarajh et al. 2024, arXiv 2402.01306, in the paired form of its first public code; the two halves are averaged,
    so that the batch mean is that of the original 2B losses. The batch is that of this process.
    Returns losses [B] in [0, 1]; terms `logit_chosen`, `logit_rejected` (what the two sigmoids get, negated) and `logit`,
    their mean. Paper and code differ: the first code let gradient through K, the paper holds it constant, and so does
    this; later code estimates K from unrelated completions. Known to fail: K is noise in small batches.
    """

    name: ClassVar[str] = "kto_pair"
    title: ClassVar[str] = "Kahneman-Tversky Optimization (pairs)"
    source: ClassVar[str] = "Ethayarajh et al. 2024, arXiv 2402.01306; paired form of its first public code"
    formula: ClassVar[str] = "L = ½ σ(−β (log X1 − K_l)) + ½ σ(−β (K_w − log X2)),  K = sg[max(0, mean)]"
    couples_pairs: ClassVar[bool] = True

    beta: float = reference_strength()

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        K_w, K_l = p.X1.detach().mean().relu(), p.X2.detach().mean().relu()
        w, l = self.beta * (p.X1 - K_l), self.beta * (K_w - p.X2)
        return Outcome(((-w).sigmoid() + (-l).sigmoid()) / 2, {"logit": (w + l) / 2, "logit_chosen": w, "logit_rejected": l}), state

    def first_step_loss(self) -> float:
        return 0.5
