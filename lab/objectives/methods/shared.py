"""The smoothed logistic loss and the parameters beta and label_smoothing, used by several objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.deferred import torch
from lab.objectives.base import parameter

if TYPE_CHECKING:
    from torch import Tensor

LN2 = 0.6931471805599453
"""ln 2 nats: the loss of every logistic objective at logit 0."""


def ls(x: Tensor) -> Tensor:
    """Compute log σ(x) element by element; any shape."""
    return torch.nn.functional.logsigmoid(x)


def smoothed(x: Tensor, e: float) -> Tensor:
    """Compute -(1-e) log σ(x) - e log σ(-x), the logistic loss where a share e of the labels is flipped; any shape.

    Mitchell, "A note on DPO with noisy preferences" (cDPO), Eq. 3. At e = 0.5 it is symmetric in x.
    """
    return -(1 - e) * ls(x) - e * ls(-x)


H = "h = log_x1 - log_x2"
"""Line of a formula that defines h."""


def smoothed_formula(x: str, e: float) -> str:
    """Return minus the loss of `smoothed` in the language of formulas, for the logit `x`; at e = 0 without its second part."""
    if not e:
        return f"log_sigmoid({x})"
    return f"((1 - label_smoothing) * log_sigmoid({x}) + label_smoothing * log_sigmoid(-({x})))"


def reference_strength(default: float = 0.1, recommended: tuple[float, float] | None = (0.01, 0.5)) -> Any:
    """Declare beta of an objective that scales log-ratios, in 1/nats."""
    return parameter(
        default,
        "Scale of the log-ratios; a larger value keeps the policy closer to the reference.",
        symbol="β",
        unit="1/nats",
        recommended=recommended,
        gt=0,
    )


def degree_margin(unit: str) -> Any:
    """Declare degree_margin, the margin that a pair of degree 1 has to reach in addition.

    Args:
        unit: Its unit; "" for the argument of the sigmoid.
    """
    return parameter(
        0.0,
        "Margin added in proportion to the annotated degree of a pair; pairs without a degree get none (OURS).",
        symbol="δ",
        unit=unit,
        changeable=False,
        ge=0,
    )


def flipped_share(default: float = 0.0, **limits: Any) -> Any:
    """Declare label_smoothing, in [0, 0.5] unless other `limits` are given."""
    limits = limits or {"ge": 0, "le": 0.5}
    return parameter(default, "Share of the labels assumed to be flipped.", symbol="ε", recommended=(0.0, 0.4), **limits)
