"""CPO and ORPO: objectives without a reference that add the likelihood of the chosen answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, parameter
from lab.objectives.registry import register

from .shared import ls

if TYPE_CHECKING:
    from torch import Tensor


@register
class CPO(Objective):
    """Contrastive Preference Optimization: logistic loss on the policy's log-probs plus the likelihood of the chosen answer.

    λ is `nll_weight`.

    Terms: logit = β (S_w - S_l); nll = -avg_w. Losses are in nats.

    Paper and library differ: the paper's likelihood term is a sum over the sequence; TRL averages over all chosen tokens of the
    micro-batch; here it is the average per pair, which is equal for one pair or equal lengths.

    Known to fail: sums without a reference favour the shorter answer.
    """

    name: ClassVar[str] = "cpo"
    title: ClassVar[str] = "Contrastive Preference Optimization"
    source: ClassVar[str] = "Xu et al. 2024, arXiv 2401.08417"
    needs_reference: ClassVar[bool] = False

    beta: float = parameter(0.1, "Scale of the log-prob difference.", symbol="β", unit="1/nats", recommended=(0.01, 0.5), gt=0)
    nll_weight: float = parameter(
        1.0, "Weight of the likelihood term of the chosen answer.", symbol="λ", recommended=(0.0, 2.0), ge=0
    )

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        likelihood = " - nll_weight * avg_w" if self.nll_weight else ""
        return f"loss = -log_sigmoid(beta * (S_w - S_l)){likelihood}"

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * (p.S_w - p.S_l)
        return Outcome(-ls(logit) - self.nll_weight * p.avg_w, {"logit": logit, "nll": -p.avg_w}), state


@register
class ORPO(Objective):
    """Odds Ratio Preference Optimization: likelihood of the chosen answer plus a logistic loss on the log odds ratio.

    log odds(y) = avg - log(1 - exp(avg)), with avg the mean token log-prob of y. Odds are infinite at probability 1, so an average
    above -eps of its type (-1.2e-7 in float32) counts as -eps there, with gradient 0. λ is `weight`.

    Terms: logit, the log odds ratio; nll = -avg_w. Losses are in nats.

    Library and paper differ: TRL takes the likelihood over prompt and answer, averaged over the micro-batch; here it is over the
    answer, per pair.

    Known to fail: not meant as a second stage after another loss; the model should be tuned on the chosen answers by this
    loss itself.
    """

    name: ClassVar[str] = "orpo"
    title: ClassVar[str] = "Odds Ratio Preference Optimization"
    source: ClassVar[str] = "Hong et al. 2024, arXiv 2403.07691"
    needs_reference: ClassVar[bool] = False
    length_normalized: ClassVar[bool] = True
    presets: ClassVar = {"Mistral-7B": Preset({"weight": 0.1}, "arXiv 2403.07691, Mistral-ORPO", 5e-6)}

    weight: float = parameter(0.1, "Weight of the odds-ratio term.", symbol="λ", recommended=(0.0, 1.0), ge=0)

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        if not self.weight:
            return "loss = -avg_w"
        return """
            logit = avg_w - log1mexp(avg_w) - (avg_l - log1mexp(avg_l))
            loss = -avg_w - weight * log_sigmoid(logit)
            """

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        o = _log_odds(p.avg_w) - _log_odds(p.avg_l)
        return Outcome(-p.avg_w - self.weight * ls(o), {"logit": o, "nll": -p.avg_w}), state


def _log_odds(a: Tensor) -> Tensor:
    """log(exp(a) / (1 - exp(a))) of a log-prob a < 0; expm1 keeps its digits for a near 0."""
    a = a.clamp(max=-torch.finfo(a.dtype).eps)
    return a - (-torch.expm1(a)).log()
