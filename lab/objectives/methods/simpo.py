"""SimPO: average log-probs, a fixed margin, no reference."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, parameter
from lab.objectives.registry import register

from .shared import degree_margin, flipped_share, smoothed, smoothed_formula

_TABLE = "SimPO authors' repository, table of training hyper-parameters"


@register
class SimPO(Objective):
    """Simple Preference Optimization: logistic loss on the difference of average log-probs minus a margin, without a reference.

    γ/β is `gamma_beta_ratio`, as in the authors' code. With label smoothing ε, -log σ(z) becomes -(1-ε) log σ(z) - ε log σ(-z).

    `degree_margin` δ adds β δ deg to the margin, deg the annotated degree of the pair (OURS).

    Terms: logit, the argument of the sigmoid; target_margin = γ (and β δ deg), in units of the logit. Losses are in nats.

    Library and paper differ: TRL's parameter is γ itself (`simpo_gamma`).

    Known to fail: with DPO's β (0.1) it hardly learns and then collapses; a large γ lowers the log-prob of the chosen answer;
    nothing keeps the policy near its start.
    """

    name: ClassVar[str] = "simpo"
    title: ClassVar[str] = "Simple Preference Optimization"
    source: ClassVar[str] = "Meng et al. 2024, arXiv 2405.14734, Eq. 6"
    needs_reference: ClassVar[bool] = False
    length_normalized: ClassVar[bool] = True
    presets: ClassVar = {
        "Mistral-7B-Base": Preset({"beta": 2.0, "gamma_beta_ratio": 0.8}, _TABLE, 3e-7),
        "Mistral-7B-Instruct": Preset({"beta": 2.5, "gamma_beta_ratio": 0.1}, _TABLE, 5e-7),
        "Llama-3-8B-Base": Preset({"beta": 2.0, "gamma_beta_ratio": 0.5}, _TABLE, 6e-7),
        "Llama-3-8B-Instruct": Preset({"beta": 2.5, "gamma_beta_ratio": 0.55}, _TABLE, 1e-6),
        "Llama-3-8B-Instruct v0.2": Preset({"beta": 10.0, "gamma_beta_ratio": 0.3}, _TABLE, 1e-6),
        "Gemma-2-9B-it": Preset({"beta": 10.0, "gamma_beta_ratio": 0.5}, _TABLE, 8e-7),
    }

    beta: float = parameter(
        2.0, "Scale of the length-normalised reward.", symbol="β", unit="tokens/nat", recommended=(2.0, 10.0), gt=0
    )
    gamma_beta_ratio: float = parameter(
        0.5, "Margin that every pair must reach.", symbol="γ/β", unit="nats/token", recommended=(0.0, 1.0), ge=0
    )
    label_smoothing: float = flipped_share()
    degree_margin: float = degree_margin("nats/token")

    @property
    @override
    def uses_degree(self) -> bool:  # type: ignore[override]
        return self.degree_margin > 0

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        margin = " - gamma_beta_ratio" if self.gamma_beta_ratio else ""
        margin += " - degree_margin * deg" if self.uses_degree else ""
        return f"loss = -{smoothed_formula(f'beta * (avg_w - avg_l{margin})', self.label_smoothing)}"

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        difference = p.avg_w - p.avg_l
        target = torch.full_like(difference, self.gamma_beta_ratio)
        if self.uses_degree:
            target = target + self.degree_margin * p.deg
        logit = self.beta * (difference - target)
        return Outcome(smoothed(logit, self.label_smoothing), {"logit": logit, "target_margin": self.beta * target}), state
