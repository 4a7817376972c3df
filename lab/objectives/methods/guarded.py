"""DPO with a further term or weight that protects the answers' likelihood: DPO-Positive, Cal-DPO, WPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, State, masked_sum, parameter
from lab.objectives.registry import register

from .shared import LN2, H, ls, reference_strength

if TYPE_CHECKING:
    from torch import Tensor


@register
class DPOP(Objective):
    """DPO-Positive (Smaug): DPO with a penalty where the chosen answer is less likely than under the reference.

    Terms: logit, the argument of the sigmoid; target_margin = β λ max(0, -log X1), in units of β h. Losses are in nats. The
    gradient of the max at log X1 = 0 is 0, so the first step is DPO's.

    Known to fail: a large λ turns it into likelihood training of the chosen answers.
    """

    name: ClassVar[str] = "dpop"
    title: ClassVar[str] = "DPO-Positive"
    source: ClassVar[str] = "Pal et al. 2024, arXiv 2402.13228"
    formula: ClassVar[str] = f"{H}\nloss = -log_sigmoid(beta * (h - lam * max(0, -log_x1)))"
    first_step_value: ClassVar[float | None] = LN2

    beta: float = reference_strength(0.3)
    lam: float = parameter(
        50.0, "Weight of the penalty on a chosen answer that falls below the reference.", symbol="λ", recommended=(5.0, 500.0), ge=0
    )

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        penalty = self.lam * torch.relu(-p.X1)
        logit = self.beta * (p.h - penalty)
        return Outcome(-ls(logit), {"logit": logit, "target_margin": self.beta * penalty}), state


@register
class CalDPO(Objective):
    """Calibrated DPO: DPO plus squared terms that pull each log-ratio to a target of its own.

    There is no β in the logistic term.

    Terms: logit = h; target_margin = 1/β, in nats.

    Paper and code differ: the paper adds the squared terms with weight 1, the released code with 0.5; here 1.

    Known to fail: the squared terms outweigh the logistic one by far, so it behaves like `sppo_hard`.
    """

    name: ClassVar[str] = "cal_dpo"
    title: ClassVar[str] = "Calibrated DPO"
    source: ClassVar[str] = "Xiao et al. 2024, arXiv 2412.14516"
    formula: ClassVar[str] = f"{H}\nloss = -log_sigmoid(h) + (log_x1 - 1/(2*beta))**2 + (log_x2 + 1/(2*beta))**2"

    beta: float = parameter(0.1, "Inverse of the target for the difference of the log-ratios.", symbol="β", unit="1/nats", gt=0)

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        target = 0.5 / self.beta
        losses = -ls(p.h) + (p.X1 - target) ** 2 + (p.X2 + target) ** 2
        return Outcome(losses, {"logit": p.h, "target_margin": torch.full_like(p.h, 2 * target)}), state

    @override
    def first_step_loss(self) -> float:
        return LN2 + 0.5 / self.beta**2


@register
class WPO(Objective):
    """Weighted Preference Optimization: DPO in which pairs that the policy itself is likely to write have more weight.

    a and b are the means over the tokens of the chosen and of the rejected answer of log sum_v p(v)^2 of the policy
    (`align_chosen`, `align_rejected`).

    Terms: logit = β h; pair_weight = c. Losses are in nats.

    Libraries differ: older TRL limited c to 1, TRL 1.x does not, and neither does this.
    """

    name: ClassVar[str] = "wpo"
    title: ClassVar[str] = "Weighted Preference Optimization"
    source: ClassVar[str] = "Zhou et al. 2024, arXiv 2406.11827, Eq. 2"
    formula: ClassVar[str] = f"""
        pair_weight = sg(exp(avg_w - align_w + avg_l - align_l))
        {H}
        loss = -pair_weight * log_sigmoid(beta * h)
        """
    formula_symbols: ClassVar = {"align_w": "a", "align_l": "b"}
    needs_alignment: ClassVar[bool] = True

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        aligned_w = masked_sum((p.chosen - p.required("align_chosen")).detach(), p.chosen_mask) / p.n_w
        aligned_l = masked_sum((p.rejected - p.required("align_rejected")).detach(), p.rejected_mask) / p.n_l
        c = (aligned_w + aligned_l).exp()
        logit = self.beta * p.h
        return Outcome(-c * ls(logit), {"logit": logit, "pair_weight": c}), state

    @override
    def formula_values(self, p: PairLogps, outcome: Outcome, state: State) -> dict[str, Tensor]:
        return {
            "align_w": masked_sum(p.required("align_chosen"), p.chosen_mask) / p.n_w,
            "align_l": masked_sum(p.required("align_rejected"), p.rejected_mask) / p.n_l,
        }
