"""Objectives without a reference beside SimPO: CPO and ORPO, which add the likelihood of the chosen answer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid as ls

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, parameter, register


@register
class CPO(Objective):
    """L = -ls(beta (S_w - S_l)) - nll_weight avg_w.

    Xu et al. 2024, arXiv 2401.08417. Returns losses [B] in nats; terms `logit` = beta (S_w - S_l) and `nll` = -avg_w.
    Paper and library differ: the paper's likelihood term is a sum over the sequence; TRL averages over all chosen
    tokens of the micro-batch; here the average per pair, equal for one pair or equal lengths.
    Known to fail: sums without a reference favour whichever answer is shorter.
    """

    name: ClassVar[str] = "cpo"
    title: ClassVar[str] = "Contrastive Preference Optimization"
    source: ClassVar[str] = "Xu et al. 2024, arXiv 2401.08417"
    formula: ClassVar[str] = "L = −log σ(β (S_w − S_l)) − λ avg_w"
    needs_reference: ClassVar[bool] = False

    beta: float = parameter(0.1, "Scale of the log-prob difference.", symbol="β", unit="1/nats", recommended=(0.01, 0.5), gt=0)
    nll_weight: float = parameter(1.0, "Weight of the chosen answer's likelihood.", symbol="λ", recommended=(0.0, 2.0), ge=0)

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * (p.S_w - p.S_l)
        return Outcome(-ls(logit) - self.nll_weight * p.avg_w, {"logit": logit, "nll": -p.avg_w}), state


@register
class ORPO(Objective):
    """L = -avg_w - weight ls(o),  o = avg_w - avg_l - log(1 - exp(avg_w)) + log(1 - exp(avg_l)), the log odds ratio.

    Hong et al. 2024, arXiv 2403.07691. Returns losses [B] in nats; terms `logit` = o and `nll` = -avg_w.
    Odds are infinite at probability 1, so an average log-prob above -eps of its type (-1.2e-7 in float32) counts as
    -eps inside o, with gradient 0 there. Library and paper differ: TRL takes the likelihood over prompt and answer,
    averaged over the micro-batch; here over the completion, per pair.
    Known to fail: not meant for a model that has not been tuned on the chosen answers by this very loss.
    """

    name: ClassVar[str] = "orpo"
    title: ClassVar[str] = "Odds Ratio Preference Optimization"
    source: ClassVar[str] = "Hong et al. 2024, arXiv 2403.07691"
    formula: ClassVar[str] = "L = −avg_w − λ log σ(log odds(y_w)/odds(y_l))"
    needs_reference: ClassVar[bool] = False
    length_normalized: ClassVar[bool] = True
    presets: ClassVar = {"Mistral-7B": Preset({"weight": 0.1}, "arXiv 2403.07691, Mistral-ORPO", 5e-6)}

    weight: float = parameter(0.1, "Weight of the odds ratio.", symbol="λ", recommended=(0.0, 1.0), ge=0)

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        o = _log_odds(p.avg_w) - _log_odds(p.avg_l)
        return Outcome(-p.avg_w - self.weight * ls(o), {"logit": o, "nll": -p.avg_w}), state


def _log_odds(a: Tensor) -> Tensor:
    """log(exp(a) / (1 - exp(a))) of a log-prob a < 0, by expm1 so that a near 0 keeps its digits."""
    a = a.clamp(max=-torch.finfo(a.dtype).eps)
    return a - (-torch.expm1(a)).log()
