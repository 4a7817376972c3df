"""The theorems of SGDPO (arXiv 2505.12435): the partial derivatives by autograd, and the closed forms that they are compared with.

The paper maximizes l_pilot = log σ(z1) + log σ(z2), which is -2 times the loss of the lab, and differentiates by the ratios
X1 and X2 themselves, not by their logarithms. Here the pilots log Y1 and log Y2 are free numbers; in training they are sums over
randomly drawn tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lab.objectives import SGDPO, PairLogps, with_credit

__all__ = ["Partials", "autograd_partials", "theorem_1", "theorem_3"]


@dataclass(frozen=True)
class Partials:
    """Partial derivatives of l_pilot at one point.

    Attributes:
        d_x1: d l_pilot/dX1, above 0: the objective increases X1.
        d_x2: d l_pilot/dX2, below 0: the objective decreases X2.
    """

    d_x1: float
    d_x2: float

    @property
    def ratio(self) -> float:
        """Ratio of increase to decrease, |d l_pilot/dX1| / |d l_pilot/dX2|."""
        return abs(self.d_x1) / abs(self.d_x2)


def autograd_partials(log_x1: float, log_x2: float, log_y1: float, log_y2: float, *, beta: float = 0.1) -> Partials:
    """Differentiate the library's SGDPO with autograd, at pilots of any size.

    Each answer has two tokens: the first is the pilot with the log-ratio log Y, the second has the rest, log X - log Y.

    Args:
        log_x1: Log-ratio of the chosen answer, nats.
        log_x2: Log-ratio of the rejected answer, nats.
        log_y1: Pilot of the chosen answer, nats.
        log_y2: Pilot of the rejected answer, nats.
        beta: Scale of the log-ratios, 1/nats.
    """
    chosen = torch.tensor([[log_y1, log_x1 - log_y1]], dtype=torch.float64)
    rejected = torch.tensor([[log_y2, log_x2 - log_y2]], dtype=torch.float64)
    whole, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    logps = PairLogps(chosen, rejected, whole, whole, torch.zeros_like(chosen), torch.zeros_like(rejected))
    draws = {"pilot_chosen": first, "pilot_rejected": first}
    credited = with_credit(SGDPO(beta=beta), logps, {}, draws, training=True)
    # Credit is -dL/dlog X, l_pilot = -2 L, and d/dX = (1/X) d/dlog X.
    return Partials(
        2 * float(credited.chosen[0, 1]) / math.exp(log_x1),
        2 * float(credited.rejected[0, 1]) / math.exp(log_x2),
    )


def theorem_1(log_x1: float, log_x2: float, log_y1: float, log_y2: float, *, beta: float = 0.1) -> Partials:
    """Evaluate the closed forms of Theorem 1; arguments as in `autograd_partials`.

    d l_pilot/dX1 = β Y2^β / (X1 (X1^β + Y2^β)) and d l_pilot/dX2 = -β X2^(β-1) / (Y1^β + X2^β).
    """
    x1, x2, y1, y2 = (math.exp(value) for value in (log_x1, log_x2, log_y1, log_y2))
    return Partials(
        beta * y2**beta / (x1 * (x1**beta + y2**beta)),
        -beta * x2 ** (beta - 1) / (y1**beta + x2**beta),
    )


def theorem_3(log_x1: float, log_x2: float, *, a: float, b: float, beta: float = 0.1) -> float:
    """Evaluate the closed form of the ratio of increase to decrease for pilots Y1 = a X1 and Y2 = b X2.

    The ratio is (X2/X1) f(u) with f(u) = b^β (a^β u + 1) / (u + b^β) and u = (X1/X2)^β. f increases exactly where ab > 1, and is 1
    everywhere at a = b = 1, which is DPO's ratio. The algebra is reconstructed from the paper's surviving text (OURS).

    Args:
        log_x1: Log-ratio of the chosen answer, nats.
        log_x2: Log-ratio of the rejected answer, nats.
        a: Y1 / X1, above 0.
        b: Y2 / X2, above 0.
        beta: Scale of the log-ratios, 1/nats.
    """
    u = math.exp(beta * (log_x1 - log_x2))
    f: float = b**beta * (a**beta * u + 1) / (u + b**beta)
    return math.exp(log_x2 - log_x1) * f
