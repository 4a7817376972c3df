"""A preference pair as a few numbers, and a batch of such pairs as token log-probs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.objectives import Objective, PairLogps
from lab.objectives.field import no_degraded

MOST_PAIRS = 12
"""Pairs of a small batch."""

FURTHEST, LONGEST, LOWEST = 1000.0, 4096, -50.0
"""Limits of a pair, wide enough for pairs of a run: nats in either direction, tokens of an answer, nats per token."""

Point = tuple[float, float]
"""(log X₁, log X₂), nats."""


@dataclass(frozen=True)
class PairNumbers:
    """A pair whose tokens all have the same log-ratio on each side.

    Attributes:
        log_x1: Log-ratio of the chosen answer, nats.
        log_x2: Log-ratio of the rejected answer, nats.
        tokens: Lengths of the two answers.
        ref: The reference's log-prob of every token of the chosen and of the rejected answer, nats.

    Raises:
        ValueError: A number is not finite or beyond the limits.
    """

    log_x1: float
    log_x2: float
    tokens: tuple[int, int] = (8, 8)
    ref: Point = (-2.0, -2.0)

    def __post_init__(self) -> None:
        for name, value in (("log X₁", self.log_x1), ("log X₂", self.log_x2)):
            if not abs(value) <= FURTHEST:
                raise ValueError(f"{name} is {value:g}; give a log-ratio between -{FURTHEST:g} and {FURTHEST:g} nats.")
        if not all(1 <= n <= LONGEST for n in self.tokens):
            raise ValueError(f"The answers have {self.tokens[0]} and {self.tokens[1]} tokens; give 1 to {LONGEST} for each.")
        if not all(LOWEST <= level <= 0 for level in self.ref):
            raise ValueError(
                f"The reference's log-probs are {self.ref[0]:g} and {self.ref[1]:g}; give {LOWEST:g} to 0 nats per token."
            )

    @property
    def attainable(self) -> bool:
        """Whether no token has a probability above 1 under the policy."""
        log_ratios = (self.log_x1, self.log_x2)
        return all(level + log_ratio / n <= 0 for level, log_ratio, n in zip(self.ref, log_ratios, self.tokens))


def pair_logps(pairs: Sequence[PairNumbers], objective: Objective | None = None) -> PairLogps:
    """Make a padded batch of token log-probs, float64 [B, T], in which every token of a side has ref + log X / n.

    The weight of WPO is taken as 1.

    Args:
        pairs: B pairs.
        objective: Objective that the batch is for; SPO gets a batch without degraded answers. None for a batch without them.

    Raises:
        ValueError: There are no pairs.
    """
    if not pairs:
        raise ValueError("There are no pairs; give at least one.")
    chosen, ref_chosen, chosen_mask = _side([p.log_x1 for p in pairs], [p.tokens[0] for p in pairs], [p.ref[0] for p in pairs])
    rejected, ref_rejected, rejected_mask = _side(
        [p.log_x2 for p in pairs], [p.tokens[1] for p in pairs], [p.ref[1] for p in pairs]
    )
    spec = objective.degraded_spec() if objective is not None else None
    return PairLogps(
        chosen=chosen,
        rejected=rejected,
        chosen_mask=chosen_mask,
        rejected_mask=rejected_mask,
        ref_chosen=ref_chosen,
        ref_rejected=ref_rejected,
        align_chosen=chosen,
        align_rejected=rejected,
        degraded=None if spec is None else no_degraded(len(pairs), spec.degrees),
    )


def _side(log_ratios: Sequence[float], lengths: Sequence[int], levels: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs of policy and reference and the mask of one side, each [B, T]; 0 at padding."""
    log_ratio, length, level = (torch.tensor(values, dtype=torch.float64)[:, None] for values in (log_ratios, lengths, levels))
    mask = torch.arange(max(lengths)) < length
    reference = torch.where(mask, level, 0.0)
    return torch.where(mask, level + log_ratio / length, 0.0), reference, mask


def format_pairs(pairs: Sequence[PairNumbers]) -> str:
    """Write pairs as `parse_pairs` reads them, without loss: "log X₁,log X₂,n_w,n_l,ref_w,ref_l" for each, joined by ";"."""
    return ";".join(",".join(map(_number, (p.log_x1, p.log_x2, *p.tokens, *p.ref))) for p in pairs)


def parse_pairs(text: str) -> tuple[PairNumbers, ...]:
    """Parse 1 to 12 pairs written as "2.5,-1,8,8,-2,-2; 0,0,12,6,-2,-2.5".

    Raises:
        ValueError: One sentence with the number of the pair that is wrong.
    """
    rows = [row.strip() for row in text.split(";") if row.strip()]
    if not 1 <= len(rows) <= MOST_PAIRS:
        raise ValueError(f"The batch has {len(rows)} pairs; give 1 to {MOST_PAIRS}.")
    return tuple(_parse(number, row) for number, row in enumerate(rows, 1))


def _parse(number: int, row: str) -> PairNumbers:
    try:
        x1, x2, n_w, n_l, ref_w, ref_l = (float(part) for part in row.split(","))
        if not (n_w.is_integer() and n_l.is_integer()):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"Pair {number} of the batch is {row!r}; write six numbers with commas: log X₁, log X₂, the two lengths (whole "
            "numbers), and the reference's log-prob per token of both answers."
        ) from None
    try:
        return PairNumbers(x1, x2, (int(n_w), int(n_l)), (ref_w, ref_l))
    except ValueError as error:
        raise ValueError(f"Pair {number} of the batch: {error}") from None


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))
