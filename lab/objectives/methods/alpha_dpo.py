"""AlphaDPO: every pair gets its own margin, from how much policy and reference disagree about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Draws, Objective, Outcome, PairLogps, Preset, State, parameter
from lab.objectives.batch_moments import Moments, moments
from lab.objectives.registry import register

from .shared import degree_margin, ls

if TYPE_CHECKING:
    from torch import Tensor

_TABLE = "arXiv 2410.10148, table of hyper-parameters, equal to the authors' configuration files; batch 128, 1 epoch"


@register
class AlphaDPO(Objective):
    """AlphaDPO: SimPO with a margin of its own for every pair, taken from how much policy and reference disagree about it.

    d = avg_w - avg_l (sums with `length_normalize` false), d_ref is d of the reference model, and z = (gap - mean) / (std + eps).
    In the formula z is M*, and std includes eps.
    `reference` selects the implicit reference and so the gap: d - d_ref for "ratio" (U (π/ref)^α, the method), d for
    "policy" (U π^α), d_ref for "reference" (U ref^α), -d_ref for "inverse_reference" (U (1/ref)^α).

    `normalize` selects mean and std: "ema", a moving average over batches; "batch", the batch; "dataset", the training set (from
    `dataset_state`); "none", z = gap. z is 0 where std is 0 or no batch has been seen, and for a single pair with "batch", or with
    "ema" in training (OURS). The state holds mean, std (without bias correction) and count; evaluation does not change it
    (OURS). The statistics are those of the batch passed in; where several processes train, that is the whole batch in each of them.

    `degree_margin` δ adds δ deg to γ/β, deg the annotated degree of the pair (OURS).

    Terms: logit, the argument of the sigmoid; target_margin = β (γ/β + α z + δ deg), in units of the logit; gap (nats/token, or
    nats); z. Losses are in nats. α = 0 is SimPO.

    Paper and code differ: this follows the released code. Eq. 12 has γ and α outside β, so γ = β gamma_beta_ratio and, where
    normalised, α of Eq. 12 is β α; Eq. 10 has sums and statistics of the data set where the code has averages per token and a
    moving average. The code's moving average starts at 0 without correction, so z is about 10 times too large at first, and
    is NaN where std is 0 or a batch holds one pair: `ema_variant` "official" gives the code's value wherever that is finite;
    "corrected" (OURS, default) divides by 1 - ema_decay^count.

    Known to fail: without the stop-gradient training collapses (length-controlled win rate 2.7 instead of 58.7). With "dataset" and
    a policy that equals the reference every gap is 0, and z stays 0 until the statistics are renewed.
    """

    name: ClassVar[str] = "alpha_dpo"
    title: ClassVar[str] = "AlphaDPO: adaptive reward margin"
    source: ClassVar[str] = "Wu et al. 2024, arXiv 2410.10148, Eq. 12; released code"
    formula_symbols: ClassVar = {"gap": "gap", "mean_gap": "mean", "std_gap": "std"}
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
        0.4, "Margin that every pair must reach.", symbol="γ/β", unit="nats/token", recommended=(0.0, 1.0), ge=0
    )
    alpha: float = parameter(
        0.05, "Margin added per unit of z; 0 is SimPO.", symbol="α", unit="nats/token", recommended=(0.0, 0.2), ge=0
    )
    normalize: Literal["ema", "batch", "dataset", "none"] = parameter(
        "ema", "Mean and std with which the gap is normalised to z; the paper uses dataset, its code ema.", changeable=False
    )
    reference: Literal["ratio", "policy", "reference", "inverse_reference"] = parameter(
        "ratio", "The implicit reference: U (π/ref)^α (the method), U π^α, U ref^α or U (1/ref)^α.", changeable=False
    )
    length_normalize: bool = parameter(True, "Average log-probs per token, as the code does; otherwise sums.", changeable=False)
    stop_gradient: bool = parameter(
        True, "Treat the margin as a constant in the gradient; without it training collapses.", symbol="sg"
    )
    ema_decay: float = parameter(0.9, "Share of the moving average kept at each step.", symbol="D", ge=0, lt=1)
    ema_variant: Literal["corrected", "official"] = parameter(
        "corrected", "corrected: bias-corrected moving average (OURS); official: the released code.", changeable=False
    )
    eps: float = parameter(1e-8, "Added to the std in z (OURS).", symbol="eps", ge=0)
    degree_margin: float = degree_margin("nats/token")

    @classmethod
    @override
    def unused_parameters(cls, values: Mapping[str, Any]) -> frozenset[str]:
        ema = values["normalize"] == "ema"
        official = ema and values["ema_variant"] == "official"
        unused = set() if ema else {"ema_decay", "ema_variant"}
        return frozenset(unused | ({"eps"} if official or values["normalize"] == "none" else set()))

    @property
    @override
    def uses_degree(self) -> bool:  # type: ignore[override]
        return self.degree_margin > 0

    @property
    @override
    def needs_reference(self) -> bool:  # type: ignore[override]
        return self.reference != "policy"

    @property
    @override
    def length_normalized(self) -> bool:  # type: ignore[override]
        return self.length_normalize

    @property
    @override
    def couples_pairs(self) -> bool:  # type: ignore[override]
        return self.normalize in ("ema", "batch")

    @override
    def couples(self, *, training: bool) -> bool:
        return self.normalize == "batch" or (self.normalize == "ema" and training)

    @property
    @override
    def needs_dataset(self) -> bool:  # type: ignore[override]
        return self.normalize == "dataset"

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        difference = "avg_w - avg_l" if self.length_normalize else "S_w - S_l"
        lines = [f"d = {difference}"]
        margin = ["gamma_beta_ratio"] if self.gamma_beta_ratio else []
        if self.alpha:
            lines += [
                f"gap = {self._gap_formula()}",
                "z = gap" if self.normalize == "none" else "z = over(gap - mean_gap, std_gap)",
            ]
            margin.append("alpha * z")
        if self.uses_degree:
            margin.append("degree_margin * deg")
        target = " + ".join(margin)
        if self.alpha and self.stop_gradient:
            target = f"sg({target})"
        elif len(margin) > 1:
            target = f"({target})"
        lines.append(f"loss = -log_sigmoid(beta * {f'(d - {target})' if margin else 'd'})")
        return "\n".join(lines)

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        d = self._difference(p)
        gap = self._gap(p)
        z, after = self._z(gap, state, training)
        target = self.gamma_beta_ratio + self.alpha * z
        if self.uses_degree:
            target = target + self.degree_margin * p.deg
        logit = self.beta * (d - (target.detach() if self.stop_gradient else target))
        return Outcome(-ls(logit), {"logit": logit, "target_margin": self.beta * target, "gap": gap, "z": z}), after

    def _gap_formula(self) -> str:
        if self.reference == "policy":
            return "d"
        d_ref = "avg_ref_w - avg_ref_l" if self.length_normalize else "R_w - R_l"
        return {"ratio": f"d - ({d_ref})", "reference": d_ref, "inverse_reference": f"-({d_ref})"}[self.reference]

    @override
    def symbols(self) -> dict[str, str]:
        """Return the symbols; those of mean and std name the gap where they run over the batch alone."""
        return super().symbols() | ({"mean_gap": "mean(gap)", "std_gap": "std(gap)"} if self.normalize == "batch" else {})

    @override
    def formula_values(self, p: PairLogps, outcome: Outcome, state: State) -> dict[str, Tensor]:
        """Return mean and std of the gap as used: corrected, the std with eps, or 0 where it was unusable and z is 0 therefore."""
        if self.normalize == "none":
            return {}
        if self.normalize == "batch":
            batch = moments(outcome.terms["gap"])
            mean, std = batch.mean, batch.std
        else:
            mean, std = state["mean"], state["std"]
        if self.normalize == "ema" and self.ema_variant == "corrected":
            weight = torch.where(state["count"] > 0, 1 - self.ema_decay ** state["count"].double(), 1.0)
            mean, std = mean / weight, std / weight
        eps = 0.0 if self.ema_variant == "official" else self.eps
        usable = (std > 0) & (outcome.terms["z"] != 0).any()
        return {"mean_gap": mean, "std_gap": torch.where(usable, std + eps, 0.0)}

    @override
    def initial_state(self) -> State:
        if self.normalize != "ema":
            return {}
        return {
            "mean": torch.zeros((), dtype=torch.float64),
            "std": torch.zeros((), dtype=torch.float64),
            "count": torch.zeros((), dtype=torch.int64),
        }

    @override
    def dataset_state(self, batches: Iterable[PairLogps]) -> State:
        """Compute mean and std of the gap over all pairs of `batches`.

        Other settings of `normalize` than "dataset" return the initial state and do not read `batches`. Raises ValueError for
        no batch.
        """
        if not self.needs_dataset:
            return self.initial_state()
        gaps = [self._gap(p).detach() for p in batches]
        if not gaps:
            raise ValueError(
                "alpha_dpo with normalize=dataset needs the log-probs of the training set, but got no batch; pass at least one."
            )
        dataset = moments(torch.cat(gaps))
        return {"mean": dataset.mean, "std": dataset.std}

    @property
    @override
    def reward_measure(self) -> str:
        """The (length-normalised) log-prob of the policy, which the loss compares, as SimPO's does."""
        return "log-prob per token" if self.length_normalize else "log-prob"

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
        """Compute z [B], with gradient through the gap but not through mean and std, and the state after the call."""
        if self.normalize == "none":
            return gap, state
        if self.normalize == "dataset":
            return _standardize(gap, _scalar(state, "mean", gap), _scalar(state, "std", gap), self.eps), state
        batch = moments(gap.detach())
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
