"""Value and gradient of an objective over the plane of (log X1, log X2), and gradient descent in that plane.

    data = field(make_objective("dpo"), torch.linspace(-5, 5, 41), torch.linspace(-5, 5, 41))
    path = flow(make_objective("sgdpo"), (0.0, 0.0), steps=200, rate=1.0)

A point is converted to token log-probs: every token of the chosen answer has the reference's log-prob plus log X1 / n_w, every
token of the rejected answer plus log X2 / n_l. Gradients come from autograd, so this works for every objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.deferred import torch

from .base import Degraded, Draws, Objective, PairLogps, State
from .credit import with_credit

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FieldData:
    """Loss and gradient over a grid of N x M points; tensors are [N, M] with log X1 along the first axis, log X2 along the second.

    log_x1 [N], log_x2 [M]: The axes, in nats.
    value: The loss.
    d_log_x1, d_log_x2: Its partial derivatives with respect to log X1 and log X2, per nat.
    attainable: bool, False where the point needs a token probability above 1 at the given reference level.
    """

    log_x1: Tensor
    log_x2: Tensor
    value: Tensor
    d_log_x1: Tensor
    d_log_x2: Tensor
    attainable: Tensor

    @property
    def d_x1(self) -> Tensor:
        """dL/dX1, the papers' partial derivative with respect to the ratio itself, [N, M]."""
        return self.d_log_x1 / self.log_x1.exp()[:, None]

    @property
    def d_x2(self) -> Tensor:
        """dL/dX2, [N, M]."""
        return self.d_log_x2 / self.log_x2.exp()[None, :]

    @property
    def log_space_ratio(self) -> Tensor:
        """|dL/dlog X1| / |dL/dlog X2|, [N, M]: 1 everywhere for DPO; inf where only the second is 0, NaN where both are."""
        return self.d_log_x1.abs() / self.d_log_x2.abs()

    @property
    def ratio(self) -> Tensor:
        """|dL/dX1| / |dL/dX2|, the ratio of increase to decrease, [N, M]: X2/X1 for DPO (arXiv 2505.12435)."""
        return self.log_space_ratio * (self.log_x2[None, :] - self.log_x1[:, None]).exp()


@dataclass(frozen=True)
class Trajectory:
    """Path of gradient descent from P starting points: log_x1, log_x2 and value, each [steps + 1, P]; row 0 is the start."""

    log_x1: Tensor
    log_x2: Tensor
    value: Tensor


def field(
    objective: Objective,
    log_x1: Tensor,
    log_x2: Tensor,
    *,
    tokens: tuple[int, int] = (8, 8),
    ref: tuple[float, float] = (-2.0, -2.0),
    state: State | None = None,
    draws: Draws | None = None,
) -> FieldData:
    """Compute value and gradient of an objective at every point (log_x1[i], log_x2[j]), in float64.

    Calls are evaluation calls; where these couple the pairs of a batch, every point is a batch of its own. The weight of WPO is
    taken as 1, SPO's degraded answers as absent.

    Args:
        objective: The objective, of any kind.
        log_x1: Axis [N] of log X1, in nats.
        log_x2: Axis [M] of log X2, in nats.
        tokens: Lengths n_w, n_l of the two answers.
        ref: Log-prob (nats) of every token of the chosen and of the rejected answer under the reference.
        state: State of the objective; by default its initial state.
        draws: Draws for one pair, [1, n_w] and [1, n_l]; by default drawn with seed 0. All points share them.

    Raises:
        ValueError: An axis is not one-dimensional, or `tokens` or `ref` do not describe answers.
    """
    log_x1, log_x2 = torch.as_tensor(log_x1), torch.as_tensor(log_x2)
    for name, axis in (("log_x1", log_x1), ("log_x2", log_x2)):
        if axis.ndim != 1 or len(axis) == 0:
            raise ValueError(f"{name} has shape {tuple(axis.shape)}; give a one-dimensional axis with at least one point.")
    plane = _Plane(objective, tokens, ref, state, draws)
    grid1, grid2 = torch.meshgrid(log_x1.double(), log_x2.double(), indexing="ij")
    value, d1, d2 = (flat.view_as(grid1) for flat in plane.at(grid1.flatten(), grid2.flatten()))
    attainable = (grid1 / tokens[0] + ref[0] <= 0) & (grid2 / tokens[1] + ref[1] <= 0)
    return FieldData(log_x1.double(), log_x2.double(), value, d1, d2, attainable)


def flow(
    objective: Objective,
    start: tuple[float, float] | Sequence[tuple[float, float]] | Tensor,
    *,
    steps: int = 100,
    rate: float = 1.0,
    tokens: tuple[int, int] = (8, 8),
    ref: tuple[float, float] = (-2.0, -2.0),
    state: State | None = None,
    draws: Draws | None = None,
) -> Trajectory:
    """Run gradient descent in (log X1, log X2) from one or more starting points.

    Args:
        objective: The objective, of any kind.
        start: (log X1, log X2), or P of them, [P, 2]; each is a batch of its own.
        steps: Number of gradient steps.
        rate: Step size, in nats squared.
        tokens: As in `field`.
        ref: As in `field`.
        state: As in `field`.
        draws: As in `field`.

    Raises:
        ValueError: As `field`, and for fewer than one step or a rate that is not positive.
    """
    starts = torch.as_tensor(start, dtype=torch.float64).reshape(-1, 2)
    if steps < 1 or not 0 < rate < float("inf"):
        raise ValueError(f"flow got steps = {steps} and rate = {rate:g}; give at least one step and a positive rate.")
    plane = _Plane(objective, tokens, ref, state, draws)
    x1, x2 = starts.unbind(-1)
    points = []
    for step in range(steps + 1):
        value, d1, d2 = plane.at(x1, x2)
        points.append(torch.stack([x1, x2, value]))
        if step < steps:
            x1, x2 = x1 - rate * d1, x2 - rate * d2
    return Trajectory(*torch.stack(points, dim=1))


@dataclass(frozen=True)
class _Plane:
    """The plane of (log X1, log X2) of one objective, with everything that is the same at all points."""

    objective: Objective
    tokens: tuple[int, int]
    ref: tuple[float, float]
    state: State | None
    draws: Draws | None

    def __post_init__(self) -> None:
        if min(self.tokens) < 1 or max(self.ref) > 0:
            raise ValueError(
                f"tokens = {self.tokens}, ref = {self.ref}: give each side at least one token and a log-prob of at most 0."
            )

    def at(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, dL/dlog X1 and dL/dlog X2 at each of P points, each [P]."""
        if self.objective.couples(training=False) and len(x1) > 1:
            single = [self.at(x1[i : i + 1], x2[i : i + 1]) for i in range(len(x1))]
            return tuple(torch.cat(part) for part in zip(*single, strict=True))  # type: ignore[return-value]
        p = pairs_at(self.objective, x1, x2, tokens=self.tokens, ref=self.ref)
        state = self.objective.initial_state() if self.state is None else self.state
        draws = self.draws if self.draws is not None else self.objective.draw(_first(p), torch.Generator().manual_seed(0))
        draws = {name: value.expand(len(x1), *value.shape[1:]) for name, value in draws.items()}
        credited = with_credit(self.objective, p, state, draws, training=False)
        # Every token moves by 1/n of its side's log-ratio, so the mean credit of a side is its (negative) derivative.
        return credited.outcome.losses, -credited.outcome.terms["weight_chosen"], credited.outcome.terms["weight_rejected"]


def pairs_at(
    objective: Objective, log_x1: Tensor, log_x2: Tensor, *, tokens: tuple[int, int], ref: tuple[float, float]
) -> PairLogps:
    """Make P pairs at the points (log_x1[i], log_x2[i]), both [P]; all tokens of a side have the log-ratio log X / n."""
    (n_w, n_l), (ref_w, ref_l), P = tokens, ref, len(log_x1)
    chosen, rejected = (ref_w + log_x1 / n_w)[:, None].expand(P, n_w), (ref_l + log_x2 / n_l)[:, None].expand(P, n_l)
    spec = objective.degraded_spec()
    return PairLogps(
        chosen=chosen,
        rejected=rejected,
        chosen_mask=torch.ones_like(chosen, dtype=torch.bool),
        rejected_mask=torch.ones_like(rejected, dtype=torch.bool),
        ref_chosen=torch.full_like(chosen, ref_w),
        ref_rejected=torch.full_like(rejected, ref_l),
        align_chosen=chosen,
        align_rejected=rejected,
        degraded=None if spec is None else no_degraded(P, spec.degrees),
    )


def no_degraded(pairs: int, degrees: int) -> Degraded:
    """Return the degraded answers of pairs that have none, for SPO without its second loss; `degrees` is N."""
    none = torch.zeros(pairs, 1, dtype=torch.int64)
    return Degraded(torch.zeros(pairs, 1, degrees, dtype=torch.float64), none, none.bool())


def _first(p: PairLogps) -> PairLogps:
    return p.map(lambda value: value[:1])
