"""SGDPO: DPO in which a random part of each answer (its pilot) guides the update of the other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, masked_sum, parameter
from lab.objectives.registry import register

from .shared import LN2, flipped_share, reference_strength, smoothed, smoothed_formula

if TYPE_CHECKING:
    from torch import Tensor


@register
class SGDPO(Objective):
    """Self-Guided DPO: each answer is compared with a pilot, a random part of the other answer, held constant in the gradient.

    log Y1 and log Y2 are the sums of the token log-ratios over the pilots: n = max(int(r min(n_w, n_l)), 1) token positions
    of the chosen (r = r1) and of the rejected answer (r = r2), drawn without replacement, anywhere in the answer, anew for
    every pair at every step, and the same for policy and reference. With label smoothing ε each -log σ(z) becomes -(1-ε) log
    σ(z) - ε log σ(-z).

    Terms: pilot_chosen = log Y1 and pilot_rejected = log Y2 (nats); logit_chosen = z1 = β (log X1 - sg[log Y2]) and
    logit_rejected = z2 = β (sg[log Y1] - log X2), the arguments of the two sigmoids; logit = (z1 + z2)/2, which is DPO's
    logit where the pilots are the whole answers. Token terms: pilot_chosen [B, T_w] and pilot_rejected [B, T_l], the bool
    masks of the pilots. Losses are in nats.

    Paper and code differ: this follows the released code. The derivatives in the paper's Theorem 1 belong to a loss without the
    factors ½. The code draws from the global generator, in evaluation too; here draws come from the generator passed in (OURS).

    Known to fail: nothing is known outside UltraFeedback and models of 7B to 8B parameters.
    """

    name: ClassVar[str] = "sgdpo"
    title: ClassVar[str] = "Self-Guided Direct Preference Optimization"
    source: ClassVar[str] = "Zhu et al. 2025, arXiv 2505.12435, released code"
    first_step_value: ClassVar[float | None] = LN2
    draws_from_masks: ClassVar[bool] = True
    presets: ClassVar = {
        "code defaults": Preset({"beta": 0.1, "r1": 0.6, "r2": 0.9}, "authors' released code, defaults", 5e-7),
        "Llama-3.1-8B base": Preset(
            {"beta": 0.1, "r1": 0.7, "r2": 0.9}, "authors' released configuration; UltraFeedback, batch 128", 5e-7
        ),
    }

    beta: float = reference_strength()
    r1: float = parameter(
        0.6,
        "Tokens of the chosen answer's pilot, as a share of the shorter answer's length.",
        symbol="r1",
        recommended=(0.6, 1.0),
        gt=0,
        le=1,
    )
    r2: float = parameter(
        0.9,
        "Tokens of the rejected answer's pilot, as a share of the shorter answer's length.",
        symbol="r2",
        recommended=(0.6, 1.0),
        gt=0,
        le=1,
    )
    pilot: Literal["d", "s"] = parameter(
        "d",
        "d: both pilots are drawn independently (the paper's Pilot_d); s: from one permutation of positions (OURS).",
    )
    label_smoothing: float = flipped_share()
    detach_pilot: bool = parameter(
        True, "Treat the sums over the pilots as constants in the gradient, as the released code does.", symbol="sg"
    )

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        guide1, guide2 = "pilot_chosen", "pilot_rejected"
        if self.detach_pilot:
            guide1, guide2 = f"sg({guide1})", f"sg({guide2})"
        chosen, rejected = (smoothed_formula(z, self.label_smoothing) for z in ("logit_chosen", "logit_rejected"))
        return f"""
            logit_chosen = beta * (log_x1 - {guide2})
            logit_rejected = beta * ({guide1} - log_x2)
            loss = -1/2 * {chosen} - 1/2 * {rejected}
            """

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        pilot_w, pilot_l = _pilot(draws, "pilot_chosen", p.chosen_mask), _pilot(draws, "pilot_rejected", p.rejected_mask)
        Y1, Y2 = masked_sum(p.ratio_chosen, pilot_w), masked_sum(p.ratio_rejected, pilot_l)
        guide1, guide2 = (Y1.detach(), Y2.detach()) if self.detach_pilot else (Y1, Y2)
        z1 = self.beta * (p.X1 - guide2)
        z2 = self.beta * (guide1 - p.X2)
        losses = 0.5 * smoothed(z1, self.label_smoothing) + 0.5 * smoothed(z2, self.label_smoothing)
        terms = {"pilot_chosen": Y1, "pilot_rejected": Y2, "logit": (z1 + z2) / 2, "logit_chosen": z1, "logit_rejected": z2}
        return Outcome(losses, terms, {"pilot_chosen": pilot_w, "pilot_rejected": pilot_l}), state

    @override
    def formula_values(self, p: PairLogps, outcome: Outcome, state: State) -> dict[str, Tensor]:
        masks = outcome.token_terms
        return {
            "pilot_chosen": masked_sum(p.ratio_chosen, masks["pilot_chosen"]),
            "pilot_rejected": masked_sum(p.ratio_rejected, masks["pilot_rejected"]),
        }

    @override
    def draw(self, p: PairLogps, rng: torch.Generator) -> Draws:
        """Draw the pilots: the random subset of each answer's tokens that SGDPO compares the whole other answer with.

        Args:
            p: Token log-probs of the batch; only lengths and masks are used.
            rng: Source of the draws.

        Returns:
            Bool masks by name, `pilot_chosen` [B, T_w] and `pilot_rejected` [B, T_l], False at padding. The amount of padding
            changes neither the masks nor the state in which `rng` is left.
        """
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


def _size(share: float, shorter: Tensor) -> Tensor:
    """max(int(share * shorter), 1), [B]; in float64, so that it rounds as Python does."""
    return (share * shorter.double()).long().clamp(min=1)


def _smallest(keys: Tensor, mask: Tensor, among: Tensor, size: Tensor) -> Tensor:
    """Mask the `size` [B] smallest keys among the first `among` [B] tokens of each completion; keys, mask [B, T] -> bool [B, T].

    Keys are indexed by the number of the token within its completion, not by column, so that a completion may start anywhere.
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
