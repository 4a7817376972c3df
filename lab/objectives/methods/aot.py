"""AOT: the whole distribution of margins is moved past the reference's, quantile by quantile."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid as ls

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, State, register

from .shared import LN2, reference_strength


@register
class AOT(Objective):
    """L_i = -ls(beta (m_i - q_r)),  m = S_w - S_l,  q = sorted(R_w - R_l),  r = rank of m_i in the batch.

    Melnyk et al. 2024, arXiv 2406.05882. Returns losses [B] in nats, L_i with the pair that owns m_i; term `logit`.
    Ties keep the order of the batch, which is that of this process. Known to fail: one pair per batch is plain DPO.
    """

    name: ClassVar[str] = "aot"
    title: ClassVar[str] = "Alignment via Optimal Transport (pairs)"
    source: ClassVar[str] = "Melnyk et al. 2024, arXiv 2406.05882"
    formula: ClassVar[str] = "L_i = −log σ(β (m_i − q_rank(i))),  m = S_w − S_l,  q = sorted(R_w − R_l)"
    couples_pairs: ClassVar[bool] = True

    beta: float = reference_strength()

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        m, q = p.S_w - p.S_l, (p.R_w - p.R_l).sort(stable=True).values
        logit = self.beta * (m - q[_rank(m)])
        return Outcome(-ls(logit), {"logit": logit}), state

    def first_step_loss(self) -> float:
        return LN2


@register
class AOTUnpaired(Objective):
    """L_i = -ls(beta (X1_i - q_r)),  q = sorted X2,  r = rank of X1_i in the batch.

    Melnyk et al. 2024, arXiv 2406.05882. As `aot`, but chosen and rejected answers need not belong together: each chosen
    log-ratio meets the rejected one of equal rank, which takes the gradient. Returns losses [B] in nats; term `logit`.
    """

    name: ClassVar[str] = "aot_unpaired"
    title: ClassVar[str] = "Alignment via Optimal Transport (unpaired)"
    source: ClassVar[str] = "Melnyk et al. 2024, arXiv 2406.05882"
    formula: ClassVar[str] = "L_i = −log σ(β (log X1_i − q_rank(i))),  q = sorted(log X2)"
    couples_pairs: ClassVar[bool] = True

    beta: float = reference_strength()

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        logit = self.beta * (p.X1 - p.X2.sort(stable=True).values[_rank(p.X1)])
        return Outcome(-ls(logit), {"logit": logit}), state

    def first_step_loss(self) -> float:
        return LN2


def _rank(values: Tensor) -> Tensor:
    """Rank of each value from 0, [B] -> [B] int64; ties keep their order."""
    return values.detach().argsort(stable=True).argsort()
