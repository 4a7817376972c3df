"""AOT: losses on sorted margins and sorted log-ratios, so that distributions are compared instead of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, State
from lab.objectives.registry import register

from .shared import LN2, ls, reference_strength

if TYPE_CHECKING:
    from torch import Tensor


@register
class AOT(Objective):
    """Alignment via Optimal Transport: move the distribution of policy margins past that of the reference, quantile by quantile.

    sorted(q)[rank(m)] is the entry of the batch's sorted q at the rank of this pair's m. Ties keep the order of the batch. The
    batch is that of this process.

    Terms: logit, the argument of the sigmoid. Losses are in nats, each with the pair of its m.

    Known to fail: with one pair per batch it is plain DPO.
    """

    name: ClassVar[str] = "aot"
    title: ClassVar[str] = "Alignment via Optimal Transport (pairs)"
    source: ClassVar[str] = "Melnyk et al. 2024, arXiv 2406.05882"
    formula: ClassVar[str] = """
        m = S_w - S_l
        q = R_w - R_l
        loss = -log_sigmoid(beta * (m - matched(m, q)))
        """
    first_step_value: ClassVar[float | None] = LN2
    couples_pairs: ClassVar[bool] = True

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        m, q = p.S_w - p.S_l, (p.R_w - p.R_l).sort(stable=True).values
        logit = self.beta * (m - q[_rank(m)])
        return Outcome(-ls(logit), {"logit": logit}), state


@register
class AOTUnpaired(Objective):
    """AOT for unpaired data: compare each chosen log-ratio with the rejected log-ratio of equal rank in the batch.

    sorted(log X₂)[rank(log X₁)] is the entry of the batch's sorted log X₂ at the rank of this pair's log X₁. Chosen and rejected
    answers need not belong to one prompt; the gradient reaches the rejected answer of that entry. Ties keep the order of the
    batch. The batch is that of this process.

    Terms: logit, the argument of the sigmoid. Losses are in nats.
    """

    name: ClassVar[str] = "aot_unpaired"
    title: ClassVar[str] = "Alignment via Optimal Transport (unpaired)"
    source: ClassVar[str] = "Melnyk et al. 2024, arXiv 2406.05882"
    formula: ClassVar[str] = "loss = -log_sigmoid(beta * (log_x1 - matched(log_x1, log_x2)))"
    first_step_value: ClassVar[float | None] = LN2
    couples_pairs: ClassVar[bool] = True

    beta: float = reference_strength()

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * (p.X1 - p.X2.sort(stable=True).values[_rank(p.X1)])
        return Outcome(-ls(logit), {"logit": logit}), state


def _rank(values: Tensor) -> Tensor:
    """Rank of each value, from 0, [B] -> [B] int64; ties keep their order."""
    return values.detach().argsort(stable=True).argsort()
