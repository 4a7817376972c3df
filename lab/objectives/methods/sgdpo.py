"""SGDPO: a pilot, a random part of the same answer, steers the gradient flow of DPO."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, masked_sum, parameter, register

from .shared import LN2, flipped_share, reference_strength, smoothed


@register
class SGDPO(Objective):
    """z1 = beta (log X1 - sg[log Y2]),  z2 = beta (sg[log Y1] - log X2),  L = sm(z1, e)/2 + sm(z2, e)/2.

    Zhu et al. 2025, arXiv 2505.12435, as the released code computes it. log Y1 (log Y2) is the sum of the token
    log-ratios over the pilot: n = max(int(r min(n_w, n_l)), 1) positions of the chosen (rejected) answer, drawn without
    replacement, anywhere in it, fresh for every pair at every step, the same positions for policy and reference.
    sm is DPO's smoothed logistic loss.

    Returns losses [B] in nats; terms `pilot_chosen` = log Y1, `pilot_rejected` = log Y2, `logit_chosen` = z1,
    `logit_rejected` = z2 and `logit` = (z1 + z2)/2, which is DPO's logit when the pilot is the whole answer; token terms
    `pilot_chosen` [B, T_w] and `pilot_rejected` [B, T_l], the bool masks of the pilot.

    Paper and code differ: the derivatives in the paper's Theorem 1 belong to a loss without the factors 1/2; the code
    has them, and so has this. The code draws from the global generator, in evaluation too; here the draws come from
    the generator that is passed in (OURS). Known to fail: not known outside UltraFeedback and 7B to 8B models.
    """

    name: ClassVar[str] = "sgdpo"
    title: ClassVar[str] = "Self-Guided Direct Preference Optimization"
    source: ClassVar[str] = "Zhu et al. 2025, arXiv 2505.12435, released code"
    formula: ClassVar[str] = "L = −½ log σ(β (log X1 − sg[log Y2])) − ½ log σ(β (sg[log Y1] − log X2))"
    presets: ClassVar = {
        "code defaults": Preset({"beta": 0.1, "r1": 0.6, "r2": 0.9}, "authors' released code, defaults", 5e-7),
        "Llama-3.1-8B base": Preset(
            {"beta": 0.1, "r1": 0.7, "r2": 0.9}, "authors' released configuration; UltraFeedback, batch 128", 5e-7
        ),
    }

    beta: float = reference_strength()
    r1: float = parameter(
        0.6, "Share of the shorter answer's length drawn from the chosen answer.", symbol="r1", recommended=(0.6, 1.0), gt=0, le=1
    )
    r2: float = parameter(
        0.9, "Share of the shorter answer's length drawn from the rejected answer.", symbol="r2", recommended=(0.6, 1.0), gt=0, le=1
    )
    pilot: Literal["d", "s"] = parameter(
        "d",
        "d: the sides are drawn independently (the paper's Pilot_d); s: the first n_w and n_l of one permutation (OURS).",
    )
    label_smoothing: float = flipped_share()
    detach_pilot: bool = parameter(True, "Stop the gradient at the pilot's sums, as the released code does.", symbol="sg")

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        pilot_w, pilot_l = _pilot(draws, "pilot_chosen", p.chosen_mask), _pilot(draws, "pilot_rejected", p.rejected_mask)
        Y1, Y2 = masked_sum(p.ratio_chosen, pilot_w), masked_sum(p.ratio_rejected, pilot_l)
        guide1, guide2 = (Y1.detach(), Y2.detach()) if self.detach_pilot else (Y1, Y2)
        z1 = self.beta * (p.X1 - guide2)
        z2 = self.beta * (guide1 - p.X2)
        losses = 0.5 * smoothed(z1, self.label_smoothing) + 0.5 * smoothed(z2, self.label_smoothing)
        terms = {"pilot_chosen": Y1, "pilot_rejected": Y2, "logit": (z1 + z2) / 2, "logit_chosen": z1, "logit_rejected": z2}
        return Outcome(losses, terms, {"pilot_chosen": pilot_w, "pilot_rejected": pilot_l}), state

    def draw(self, p: PairLogps, rng: torch.Generator) -> Draws:
        """`pilot_chosen` [B, T_w] and `pilot_rejected` [B, T_l] bool; padding changes neither them nor what `rng` gives next."""
        shorter = torch.minimum(p.n_w, p.n_l)
        # One number per position, side and pair, position first: more padding appends numbers and shifts none.
        longest = max(p.chosen_mask.shape[1], p.rejected_mask.shape[1])
        seed = int(torch.randint(2**63 - 1, (), generator=rng, device=rng.device))
        child = torch.Generator().manual_seed(seed)
        keys = torch.rand(longest, 2, len(p), generator=child, dtype=torch.float64).permute(1, 2, 0)
        keys = keys.to(p.chosen_mask.device, non_blocking=p.chosen_mask.is_cuda)
        if self.pilot == "d":
            among_w, among_l, keys_w, keys_l = p.n_w, p.n_l, keys[0], keys[1]
        else:
            among_w, among_l, keys_w, keys_l = shorter, shorter, keys[0], keys[0]
        return {
            "pilot_chosen": _smallest(keys_w, p.chosen_mask, among_w, _size(self.r1, shorter)),
            "pilot_rejected": _smallest(keys_l, p.rejected_mask, among_l, _size(self.r2, shorter)),
        }

    def first_step_loss(self) -> float:
        return LN2


def _size(share: float, shorter: Tensor) -> Tensor:
    """max(int(share * shorter), 1), [B]; in float64, so that it rounds as Python does."""
    return (share * shorter.double()).long().clamp(min=1)


def _smallest(keys: Tensor, mask: Tensor, among: Tensor, size: Tensor) -> Tensor:
    """Mask of the `size` [B] smallest keys among the first `among` [B] tokens of each completion; keys, mask [B, T] -> bool [B, T].

    Keys belong to the completion's tokens counted from 0, not to columns, so that a completion may start anywhere.
    """
    token = mask.cumsum(-1) - 1
    open_to_draw = mask & (token < among[:, None])
    key = torch.where(open_to_draw, keys.gather(1, token.clamp(min=0)), torch.inf)
    drawn = torch.arange(mask.shape[1], device=mask.device) < size[:, None]
    return torch.zeros_like(mask).scatter(1, key.argsort(dim=-1, stable=True), drawn)


def _pilot(draws: Draws, key: str, mask: Tensor) -> Tensor:
    if key not in draws:
        raise ValueError(f"sgdpo needs the draw {key!r}, which is missing; pass what draw(logps, rng) returns.")
    pilot = draws[key]
    if pilot.dtype != torch.bool or pilot.shape != mask.shape:
        raise ValueError(
            f"The draw {key!r} is {pilot.dtype} of shape {tuple(pilot.shape)}; give torch.bool of shape {tuple(mask.shape)}."
        )
    return pilot & mask
