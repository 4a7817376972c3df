"""DPO, the baseline of all other objectives."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State
from lab.objectives.registry import register

from .shared import LN2, H, degree_margin, flipped_share, reference_strength, smoothed, smoothed_formula


@register
class DPO(Objective):
    """Direct Preference Optimization: logistic loss on the difference of the two log-ratios.

    ε is `label_smoothing`, the share of labels assumed to be flipped.

    With smoothing the loss is -(1-ε) log σ(β h) - ε log σ(-β h).

    With `degree_margin` δ the logit is β h - δ deg, deg the annotated degree of the pair: DPO with an offset (ODPO, Amini et al.
    2024, arXiv 2402.10571), whose offset is a function of the difference of two scores; that it is proportional to an annotated
    degree is OURS.

    Terms: logit, the argument of the sigmoid; target_margin = δ deg, where δ > 0. Losses are in nats.

    Library and paper differ: TRL 1.x accepts label_smoothing and ignores it for this loss; here it is used, as in the
    authors' code.

    Known to fail: |dL/dX1| / |dL/dX2| = X2/X1, so once X2 < X1 the rejected answer falls faster than the chosen one moves, and the
    log-prob of the chosen answer often falls too (likelihood displacement).
    """

    name: ClassVar[str] = "dpo"
    title: ClassVar[str] = "Direct Preference Optimization"
    source: ClassVar[str] = "Rafailov et al. 2023, arXiv 2305.18290, Eq. 7; smoothing: Mitchell, cDPO note, Eq. 3"
    presets: ClassVar = {
        "paper": Preset({"beta": 0.1}, "arXiv 2305.18290, appendix B: β = 0.1, RMSprop, 150 linear warm-up steps", 1e-6),
    }

    beta: float = reference_strength()
    label_smoothing: float = flipped_share()
    degree_margin: float = degree_margin("")

    @property
    @override
    def uses_degree(self) -> bool:  # type: ignore[override]
        return self.degree_margin > 0

    @override
    def first_step_loss(self) -> float | None:
        return None if self.uses_degree else LN2

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        logit = "beta * h - degree_margin * deg" if self.uses_degree else "beta * h"
        return f"{H}\nloss = -{smoothed_formula(logit, self.label_smoothing)}"

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * p.h
        if not self.uses_degree:
            return Outcome(smoothed(logit, self.label_smoothing), {"logit": logit}), state
        margin = self.degree_margin * p.deg
        logit = logit - margin
        return Outcome(smoothed(logit, self.label_smoothing), {"logit": logit, "target_margin": margin}), state
