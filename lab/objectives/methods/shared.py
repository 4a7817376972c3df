"""What several objectives share: the logistic link and the parameters beta and label_smoothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid as ls

from lab.objectives.base import parameter

LN2 = 0.6931471805599453
"""ln 2 nats: the loss of every logistic objective at logit 0."""


def smoothed(x: Tensor, e: float) -> Tensor:
    """-(1-e) log sigma(x) - e log sigma(-x): the logistic loss when a share e of the labels is flipped; any shape.

    Mitchell, "A note on DPO with noisy preferences" (cDPO), Eq. 3. At e = 0.5 it does not change when x changes sign.
    """
    return -(1 - e) * ls(x) - e * ls(-x)


def reference_strength(default: float = 0.1, recommended: tuple[float, float] | None = (0.01, 0.5)) -> Any:
    """beta of the objectives that scale log-ratios, in 1/nats."""
    return parameter(
        default, "How hard the policy is held to the reference.", symbol="β", unit="1/nats", recommended=recommended, gt=0
    )


def flipped_share(default: float = 0.0, **limits: Any) -> Any:
    """label_smoothing, in [0, 0.5] unless `limits` say otherwise."""
    limits = limits or {"ge": 0, "le": 0.5}
    return parameter(default, "Share of the labels taken to be flipped.", symbol="ε", recommended=(0.0, 0.4), **limits)
