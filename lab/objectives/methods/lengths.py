"""DPO with the length of the answers taken into account: length-normalised DPO, R-DPO, LD-DPO."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid as ls

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, masked_sum, parameter, register

from .shared import LN2, reference_strength


@register
class NormalizedDPO(Objective):
    """L = -ls(beta (X1/n_w - X2/n_l)): DPO on mean log-ratios per token.

    Lambert et al. 2024, arXiv 2411.15124 (Tulu 3); TRL's `sigmoid_norm`, which its documentation puts next to SimPO
    although it keeps the reference. Returns losses [B] in nats, term `logit`.
    Known to fail: with DPO's beta (0.1) the logit hardly leaves 0, because averages are smaller than sums.
    """

    name: ClassVar[str] = "dpo_norm"
    title: ClassVar[str] = "Length-normalised DPO"
    source: ClassVar[str] = "Lambert et al. 2024, arXiv 2411.15124"
    formula: ClassVar[str] = "L = −log σ(β (log X1/n_w − log X2/n_l))"
    length_normalized: ClassVar[bool] = True
    presets: ClassVar = {"Tulu 3 8B": Preset({"beta": 5.0}, "arXiv 2411.15124, DPO hyper-parameters", 5e-7)}

    beta: float = parameter(
        5.0, "Scale of the length-normalised reward.", symbol="β", unit="tokens/nat", recommended=(2.0, 15.0), gt=0
    )

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * (p.X1 / p.n_w - p.X2 / p.n_l)
        return Outcome(-ls(logit), {"logit": logit}), state

    def first_step_loss(self) -> float:
        return LN2


@register
class RDPO(Objective):
    """L = -ls(beta h + alpha (n_w - n_l)): a pair whose chosen answer is longer needs less margin.

    Park et al. 2024, arXiv 2403.19159. Returns losses [B] in nats; terms `logit` (what the sigmoid gets) and
    `target_margin` = -alpha (n_w - n_l), in units of beta h.
    Sources differ: the penalised reward r - alpha n gives the + sign; the tables in the AlphaDPO and RainbowPO papers
    and some libraries print -, which raises the pressure towards longer chosen answers.
    """

    name: ClassVar[str] = "r_dpo"
    title: ClassVar[str] = "Length-regularised DPO"
    source: ClassVar[str] = "Park et al. 2024, arXiv 2403.19159"
    formula: ClassVar[str] = "L = −log σ(β h + α (n_w − n_l))"

    beta: float = reference_strength()
    alpha: float = parameter(0.01, "Reward taken off per token.", symbol="α", unit="1/token", recommended=(0.0, 1.0), ge=0)

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        bonus = self.alpha * (p.n_w - p.n_l).to(p.h)
        logit = self.beta * p.h + bonus
        return Outcome(-ls(logit), {"logit": logit, "target_margin": -bonus}), state


@register
class LDDPO(Objective):
    """L = -ls(beta h'), h' as h with every token past the first min(n_w, n_l) weighted by alpha.

    Liu et al. 2024, arXiv 2409.06411, Eq. 11. Returns losses [B] in nats, term `logit` = beta h'. alpha = 1 is DPO.
    Libraries differ: the paper redefines the policy's likelihood and is silent about the reference; older TRL and
    LLaMA-Factory weight the policy only, TRL 1.x both, as this does.
    """

    name: ClassVar[str] = "ld_dpo"
    title: ClassVar[str] = "Length-desensitised DPO"
    source: ClassVar[str] = "Liu et al. 2024, arXiv 2409.06411, Eq. 11"
    formula: ClassVar[str] = "L = −log σ(β h′), tokens past min(n_w, n_l) weighted by α"

    beta: float = reference_strength()
    alpha: float = parameter(0.5, "Weight of the tokens by which one answer is longer; 1 is DPO.", symbol="α", ge=0, le=1)

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        shared = torch.minimum(p.n_w, p.n_l)[:, None]
        X1 = self._weighted(p.ratio_chosen, p.chosen_mask, shared)
        X2 = self._weighted(p.ratio_rejected, p.rejected_mask, shared)
        logit = self.beta * (X1 - X2)
        return Outcome(-ls(logit), {"logit": logit}), state

    def _weighted(self, ratio: Tensor, mask: Tensor, shared: Tensor) -> Tensor:
        beyond = mask & (mask.cumsum(-1) > shared)
        return masked_sum(ratio, mask & ~beyond) + self.alpha * masked_sum(ratio, beyond)

    def first_step_loss(self) -> float:
        return LN2
