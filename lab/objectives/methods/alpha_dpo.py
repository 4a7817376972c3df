"""alpha-DPO: every pair gets its own margin, from how far policy and reference already disagree about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid as ls

from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, parameter, register
from lab.objectives.batch_moments import Moments, all_reduce_sum, moments

_TABLE = "arXiv 2410.10148, table of hyper-parameters, equal to the authors' configuration files; batch 128, 1 epoch"


@register
class AlphaDPO(Objective):
    """L = -ls(beta (d - sg[gamma_beta_ratio + alpha z])),  d = avg_w - avg_l,  z = (gap - mean) / (std + eps).

    Wu et al. 2024, arXiv 2410.10148, Eq. 12, as the authors' code computes it. gap is the implicit reference's view of
    the pair: d - d_ref for `reference` "ratio" (U (pi/ref)^alpha, the method), d for "policy" (U pi^alpha), d_ref for
    "reference" (U ref^alpha), -d_ref for "inverse_reference" (U (1/ref)^alpha); d_ref is d of the reference model.

    `normalize` says whose mean and std: "ema", a moving average over batches; "batch"; "dataset", the training set's,
    from `dataset_state`; "none", z = gap. z = 0 where std is 0 or nothing has been seen, and for one pair alone with
    "batch" or in training with "ema" (OURS). State "mean", "std" (uncorrected), "count"; evaluation reads it and leaves
    it alone (OURS). In training, statistics run over all processes when torch.distributed is initialised, so all of
    them have to call; in evaluation over the batch at hand.

    Returns losses [B] in nats; terms `logit` (what the sigmoid gets), `target_margin` = beta (gamma_beta_ratio + alpha z),
    in units of the logit, `gap` (nats/token, or nats) and `z`. alpha = 0 is SimPO.

    Paper and code differ: Eq. 12 has gamma and alpha outside beta, so gamma = beta gamma_beta_ratio and, normalised,
    alpha_12 = beta alpha; Eq. 10 uses sums and data-set statistics where the code uses averages per token and a moving
    average. The code's moving average starts at 0 without correction, so z is about 10 times too large at first, and
    is NaN where std is 0 or a batch holds one pair: `ema_variant` "official" is the code's value wherever that is
    finite, and the rules above elsewhere; "corrected" (OURS, default) divides by 1 - ema_decay^count.
    Known to fail: without the stop-gradient training collapses (length-controlled win rate 2.7 instead of 58.7). With
    "dataset" and a policy that still equals the reference every gap is 0, and so is z, until the statistics are renewed.
    """

    name: ClassVar[str] = "alpha_dpo"
    title: ClassVar[str] = "AlphaDPO: adaptive reward margin"
    source: ClassVar[str] = "Wu et al. 2024, arXiv 2410.10148, Eq. 12; released code"
    formula: ClassVar[str] = "L = −log σ(β (avg log π(y_w) − avg log π(y_l) − sg[γ/β + α z])),  z = (gap − mean)/std"
    presets: ClassVar = {
        "Mistral-7B-Instruct": Preset({"beta": 2.5, "gamma_beta_ratio": 0.15, "alpha": 0.05}, _TABLE, 6e-7),
        "Llama-3-8B-Instruct": Preset({"beta": 2.5, "gamma_beta_ratio": 0.6, "alpha": 0.2}, _TABLE, 1e-6),
        "Llama-3-8B-Instruct v0.2": Preset({"beta": 10.0, "gamma_beta_ratio": 0.4, "alpha": 0.2}, _TABLE, 1e-6),
        "Gemma-2-9B-it": Preset({"beta": 10.0, "gamma_beta_ratio": 0.4, "alpha": 0.05}, _TABLE, 8e-7),
    }

    beta: float = parameter(
        10.0, "Scale of the length-normalised reward.", symbol="β", unit="tokens/nat", recommended=(2.5, 10.0), gt=0
    )
    gamma_beta_ratio: float = parameter(
        0.4, "Margin asked of every pair.", symbol="γ/β", unit="nats/token", recommended=(0.0, 1.0), ge=0
    )
    alpha: float = parameter(
        0.05, "Margin added per unit of z; 0 is SimPO.", symbol="α", unit="nats/token", recommended=(0.0, 0.2), ge=0
    )
    normalize: Literal["ema", "batch", "dataset", "none"] = parameter(
        "ema", "Whose mean and std turn the gap into z; the paper has dataset, its code ema.", changeable=False
    )
    reference: Literal["ratio", "policy", "reference", "inverse_reference"] = parameter(
        "ratio", "The implicit reference: U (π/ref)^α (the method), U π^α, U ref^α or U (1/ref)^α.", changeable=False
    )
    length_normalize: bool = parameter(True, "Average log-probs per token, as the code does; otherwise sums.", changeable=False)
    stop_gradient: bool = parameter(True, "Hold the margin constant in the gradient; without it training collapses.", symbol="sg")
    ema_decay: float = parameter(0.9, "Share of the moving average kept at each step.", symbol="D", ge=0, lt=1)
    ema_variant: Literal["corrected", "official"] = parameter(
        "corrected", "corrected: bias-corrected moving average (OURS); official: the released code.", changeable=False
    )
    eps: float = parameter(1e-8, "Added to std in z (OURS).", symbol="eps", ge=0)

    @classmethod
    def unused_parameters(cls, values: Mapping[str, Any]) -> frozenset[str]:
        ema = values["normalize"] == "ema"
        official = ema and values["ema_variant"] == "official"
        unused = set() if ema else {"ema_decay", "ema_variant"}
        return frozenset(unused | ({"eps"} if official or values["normalize"] == "none" else set()))

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        return self.reference != "policy"

    @property
    def length_normalized(self) -> bool:  # type: ignore[override]
        return self.length_normalize

    @property
    def couples_pairs(self) -> bool:  # type: ignore[override]
        return self.normalize in ("ema", "batch")

    def couples(self, *, training: bool) -> bool:
        return self.normalize == "batch" or (self.normalize == "ema" and training)

    @property
    def needs_dataset(self) -> bool:  # type: ignore[override]
        return self.normalize == "dataset"

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        d = self._difference(p)
        gap = self._gap(p)
        z, after = self._z(gap, state, training)
        target = self.gamma_beta_ratio + self.alpha * z
        logit = self.beta * (d - (target.detach() if self.stop_gradient else target))
        return Outcome(-ls(logit), {"logit": logit, "target_margin": self.beta * target, "gap": gap, "z": z}), after

    def initial_state(self) -> State:
        if self.normalize != "ema":
            return {}
        return {
            "mean": torch.zeros((), dtype=torch.float64),
            "std": torch.zeros((), dtype=torch.float64),
            "count": torch.zeros((), dtype=torch.int64),
        }

    def dataset_state(self, batches: Iterable[PairLogps]) -> State:
        """Mean and std of the gap over all pairs of `batches` (and over all processes, each with its share), for
        normalize "dataset"; for the others the initial state, without reading `batches`. Raises ValueError if there is no pair."""
        if not self.needs_dataset:
            return self.initial_state()
        gaps = [self._gap(p).detach() for p in batches]
        if not gaps:
            raise ValueError(
                "alpha_dpo with normalize=dataset needs the training set's log-probs, but there was no batch; pass at least one."
            )
        found = moments(torch.cat(gaps), all_reduce_sum)
        return {"mean": found.mean, "std": found.std}

    def rewards(self, p: PairLogps) -> tuple[Tensor, Tensor]:
        """beta times the (length-normalised) log-prob of the policy, each [B]: the reward the loss compares, as in SimPO."""
        w, l = (p.avg_w, p.avg_l) if self.length_normalize else (p.S_w, p.S_l)
        return self.beta * w, self.beta * l

    def _difference(self, p: PairLogps) -> Tensor:
        return p.avg_w - p.avg_l if self.length_normalize else p.S_w - p.S_l

    def _gap(self, p: PairLogps) -> Tensor:
        if self.reference == "policy":
            return self._difference(p)
        d_ref = p.R_w / p.n_w - p.R_l / p.n_l if self.length_normalize else p.R_w - p.R_l
        if self.reference == "ratio":
            return self._difference(p) - d_ref
        return d_ref if self.reference == "reference" else -d_ref

    def _z(self, gap: Tensor, state: State, training: bool) -> tuple[Tensor, State]:
        """z [B] with the gradient of gap, mean and std held constant, and the state after the call."""
        if self.normalize == "none":
            return gap, state
        if self.normalize == "dataset":
            return _standardize(gap, _scalar(state, "mean", gap), _scalar(state, "std", gap), self.eps), state
        batch = moments(gap.detach(), all_reduce_sum if training else None)
        if self.normalize == "batch":
            return _standardize(gap, batch.mean, batch.std, self.eps), state
        return self._moving_z(gap, batch, state, training)

    def _moving_z(self, gap: Tensor, batch: Moments, state: State, training: bool) -> tuple[Tensor, State]:
        D = self.ema_decay
        m, s, count = (_scalar(state, key, gap) for key in ("mean", "std", "count"))
        usable = torch.ones((), dtype=torch.bool, device=gap.device)
        if training:
            usable = batch.count > 1  # one pair alone has no std: the state stays as it was
            m = torch.where(usable, D * m + (1 - D) * batch.mean, m)
            s = torch.where(usable, D * s + (1 - D) * batch.std, s)
            count = count + usable.long()
            state = {"mean": m, "std": s, "count": count}
        if self.ema_variant == "official":
            return _standardize(gap, m, torch.where(usable, s, 0.0), 0.0), state
        weight = torch.where(count > 0, 1 - D ** count.double(), 1.0)
        return _standardize(gap, m / weight, torch.where(usable, s / weight, 0.0), self.eps), state


def _standardize(gap: Tensor, mean: Tensor, std: Tensor, eps: float) -> Tensor:
    """(gap - mean) / (std + eps), and 0 where std is 0; gap [B], the others scalars."""
    varied = std > 0
    scale = torch.where(varied, std + eps, 1.0)
    return torch.where(varied, (gap - mean.to(gap)) / scale.to(gap), 0.0)


def _scalar(state: State, key: str, like: Tensor) -> Tensor:
    if key not in state:
        raise ValueError(
            f"alpha_dpo needs {key!r} in its state, which is missing; start from initial_state() or dataset_state(batches)."
        )
    return torch.as_tensor(state[key], dtype=torch.int64 if key == "count" else torch.float64, device=like.device)
