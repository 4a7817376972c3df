"""DPO with the length of the answers taken into account: length-normalised DPO, R-DPO, LD-DPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, masked_sum, parameter
from lab.objectives.registry import register

from .shared import LN2, H, ls, reference_strength

if TYPE_CHECKING:
    from torch import Tensor


@register
class NormalizedDPO(Objective):
    """Length-normalised DPO (Tulu 3): DPO on mean log-ratios per token.

    The same as TRL's `sigmoid_norm`, which its documentation describes next to SimPO although it keeps the reference.

    Terms: logit, the argument of the sigmoid. Losses are in nats.

    Known to fail: with DPO's β (0.1) the logit stays near 0, because averages are smaller than sums.
    """

    name: ClassVar[str] = "dpo_norm"
    title: ClassVar[str] = "Length-normalised DPO"
    source: ClassVar[str] = "Lambert et al. 2024, arXiv 2411.15124"
    formula: ClassVar[str] = "loss = -log_sigmoid(beta * (log_x1 / n_w - log_x2 / n_l))"
    first_step_value: ClassVar[float | None] = LN2
    length_normalized: ClassVar[bool] = True
    presets: ClassVar = {"Tulu 3 8B": Preset({"beta": 5.0}, "arXiv 2411.15124, DPO hyper-parameters", 5e-7)}

    beta: float = parameter(
        5.0, "Scale of the length-normalised reward.", symbol="β", unit="tokens/nat", recommended=(2.0, 15.0), gt=0
    )

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * (p.X1 / p.n_w - p.X2 / p.n_l)
        return Outcome(-ls(logit), {"logit": logit}), state


@register
class RDPO(Objective):
    """Length-regularised DPO: a pair whose chosen answer is longer needs less margin.

    Terms: logit, the argument of the sigmoid; target_margin = -α (n_w - n_l), in units of β h. Losses are in nats.

    Sources differ: the penalised reward r - α n leads to the + sign used here; the tables in the AlphaDPO and RainbowPO papers and
    some libraries have -, which increases the pressure towards longer chosen answers.
    """

    name: ClassVar[str] = "r_dpo"
    title: ClassVar[str] = "Length-regularised DPO"
    source: ClassVar[str] = "Park et al. 2024, arXiv 2403.19159"
    formula: ClassVar[str] = f"{H}\nloss = -log_sigmoid(beta * h + alpha * (n_w - n_l))"

    beta: float = reference_strength()
    alpha: float = parameter(0.01, "Reward subtracted per token.", symbol="α", unit="1/token", recommended=(0.0, 1.0), ge=0)

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        bonus = self.alpha * (p.n_w - p.n_l).to(p.h)
        logit = self.beta * p.h + bonus
        return Outcome(-ls(logit), {"logit": logit, "target_margin": -bonus}), state


@register
class LDDPO(Objective):
    """Length-desensitised DPO: tokens beyond the length of the shorter answer count with weight α.

    h′ is h with every token after the first n = min(n_w, n_l) of its answer weighted by α: [≤n] are the log-ratios summed over
    the first n tokens, [>n] over the others. α = 1 is DPO.

    Terms: logit = β h′. Losses are in nats.

    Libraries differ: the paper redefines the policy's likelihood and does not mention the reference; older TRL and
    LLaMA-Factory weight the policy only, TRL 1.x both, as this does.
    """

    name: ClassVar[str] = "ld_dpo"
    title: ClassVar[str] = "Length-desensitised DPO"
    source: ClassVar[str] = "Liu et al. 2024, arXiv 2409.06411, Eq. 11"
    formula: ClassVar[str] = """
        h_weighted = first_w + alpha * rest_w - (first_l + alpha * rest_l)
        loss = -log_sigmoid(beta * h_weighted)
        """
    formula_symbols: ClassVar = {
        "h_weighted": "h′",
        "first_w": "log X₁[≤n]",
        "rest_w": "log X₁[>n]",
        "first_l": "log X₂[≤n]",
        "rest_l": "log X₂[>n]",
    }
    first_step_value: ClassVar[float | None] = LN2

    beta: float = reference_strength()
    alpha: float = parameter(0.5, "Weight of the tokens by which one answer is longer; 1 is DPO.", symbol="α", ge=0, le=1)

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        first_w, rest_w, first_l, rest_l = _parts(p)
        logit = self.beta * (first_w + self.alpha * rest_w - (first_l + self.alpha * rest_l))
        return Outcome(-ls(logit), {"logit": logit}), state

    @override
    def formula_values(self, p: PairLogps, outcome: Outcome, state: State) -> dict[str, Tensor]:
        return dict(zip(("first_w", "rest_w", "first_l", "rest_l"), _parts(p), strict=True))


def _parts(p: PairLogps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-ratio of the first min(n_w, n_l) tokens and of the others: of the chosen, then of the rejected answer; each [B]."""
    shorter = torch.minimum(p.n_w, p.n_l)[:, None]
    first_w, first_l = p.chosen_mask.cumsum(-1) <= shorter, p.rejected_mask.cumsum(-1) <= shorter
    return (
        masked_sum(p.ratio_chosen, p.chosen_mask & first_w),
        masked_sum(p.ratio_chosen, p.chosen_mask & ~first_w),
        masked_sum(p.ratio_rejected, p.rejected_mask & first_l),
        masked_sum(p.ratio_rejected, p.rejected_mask & ~first_l),
    )
