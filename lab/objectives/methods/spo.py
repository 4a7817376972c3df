"""SPO: any objective plus a self-supervised loss on how much an answer has been degraded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_serializer, field_validator
from typing_extensions import override

from lab.deferred import torch
from lab.objectives.base import Degraded, DegradedSpec, Draws, Objective, Outcome, PairLogps, State, parameter
from lab.objectives.expression import renamed
from lab.objectives.registry import make_objective, register

if TYPE_CHECKING:
    from torch import Tensor


@register
class SPO(Objective):
    """Self-supervised Preference Optimization: any objective plus a classifier of how much an answer was degraded.

    L_align is the loss of `base`; L_PD, weighted by λ_PD (`weight`), is the cross-entropy of a linear head that predicts the
    degree k from the hidden state h_k of an answer with a share of its RAKE key phrases removed, averaged over the degraded
    answers of a pair (0 where it has none). The head's scores are passed as `PairLogps.degraded`.

    The paper establishes that the two losses are trained together. Not public and therefore OURS: the number of degrees N; that
    y^(k) lacks the share k/(N-1) of its key phrases, those of highest score first (k = 0 is intact); the head, its pooling, the
    weight and the share of pairs.

    `annotated_degrees` adds the rejected answer of every pair with an annotated degree d in (0, 1] to the degraded answers, as
    degree d (N-1), rounded and at least 1 (OURS): with N = 4 slight (1/3), clear (2/3) and strong (1) are the degrees 1, 2 and 3.

    Terms: those of the base objective (its loss as loss_align), and
      loss_degree       the cross-entropy, unweighted, in nats;
      degree            mean predicted degree of the pair's answers, from the head's probabilities, in [0, N-1];
      degree_accuracy   share of the pair's answers whose most probable degree is the true one;
      rank_correlation  Spearman's, between the implicit log-ratio and the degree; -1 means that the reward falls with every phrase
                        removed. With source "both" over the answers of both sides together.
    loss_degree and the three below are NaN where they are undefined: no answer, no log-ratio, all equal.

    Known to fail: nothing is published about it. Not to be confused with other methods called SPO.
    """

    name: ClassVar[str] = "spo"
    title: ClassVar[str] = "Self-supervised Preference Optimization"
    source: ClassVar[str] = "Li et al. 2024, arXiv 2409.17791; head, degrees and weight: OURS"
    first_step_term: ClassVar[str] = "loss_align"

    base: Objective = parameter(
        "dpo",
        "The alignment loss: the name of an objective, or name and parameters as JSON.",
        symbol="L_align",
        changeable=False,
        validate_default=True,
    )
    degrees: int = parameter(
        4, "Number of degrees, the intact answer included (OURS).", symbol="N", recommended=(2, 8), changeable=False, ge=2, le=64
    )
    weight: float = parameter(0.1, "Weight of the preference-degree loss (OURS).", symbol="λ_PD", recommended=(0.0, 1.0), ge=0)
    degraded_source: Literal["chosen", "rejected", "both", "sampled"] = parameter(
        "chosen", "The answer that is degraded; sampled: a fresh one of the policy (OURS).", changeable=False
    )
    share: float = parameter(1.0, "Share of a step's pairs that get degraded answers (OURS).", gt=0, le=1)
    pooling: Literal["last", "mean"] = parameter(
        "last",
        "Hidden state that the head reads: of the last token of the answer, or the mean over its tokens (OURS).",
        changeable=False,
    )

    annotated_degrees: bool = parameter(
        False,
        "Train the head on the rejected answers of pairs with an annotated degree, too, as answers of that degree (OURS).",
        changeable=False,
    )

    @classmethod
    @override
    def unused_parameters(cls, values: Mapping[str, Any]) -> frozenset[str]:
        """Where rejected answers are degraded, the intact one has degree 0 already."""
        return frozenset({"annotated_degrees"} if values["degraded_source"] in ("rejected", "both") else ())

    @field_validator("base", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Accept a name ("sgdpo"), a mapping ({"name": "sgdpo", "beta": 0.1}) or that mapping as JSON text."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"The base objective {value!r} is not JSON ({error}); give a name or an object.") from error
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict):
            if "name" not in value:
                raise ValueError('The base objective needs a name: {"name": "dpo", ...}.')
            value = make_objective(**value)
        if isinstance(value, cls):
            raise ValueError("The base objective of spo cannot be spo again; choose another one.")
        return value

    @field_serializer("base")
    def _base_spec(self, base: Objective) -> dict[str, Any]:
        return base.spec()

    @property
    @override
    def needs_reference(self) -> bool:  # type: ignore[override]
        return self.base.needs_reference

    @property
    @override
    def needs_alignment(self) -> bool:  # type: ignore[override]
        return self.base.needs_alignment

    @property
    @override
    def length_normalized(self) -> bool:  # type: ignore[override]
        return self.base.length_normalized

    @property
    @override
    def couples_pairs(self) -> bool:  # type: ignore[override]
        return self.base.couples_pairs

    @override
    def couples(self, *, training: bool) -> bool:
        return self.base.couples(training=training)

    @property
    @override
    def uses_degree(self) -> bool:  # type: ignore[override]
        return self.annotated_degrees or self.base.uses_degree

    @property
    @override
    def needs_dataset(self) -> bool:  # type: ignore[override]
        return self.base.needs_dataset

    @property
    @override
    def formula(self) -> str:  # type: ignore[override]
        own = "loss = loss_align + weight * loss_degree" if self.weight else "loss = loss_align"
        parameters = {key: f"base.{key}" for key in type(self.base).model_fields}
        try:
            return f"{renamed(self.base.formula, {'loss': 'loss_align', **parameters})}\n{own}"
        except ValueError:  # the base declares none in the language: its loss is a term of this one
            return own

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        degraded = self._degraded(p)
        align, after = self.base(p, state, draws, training=training)
        loss_degree = degree_loss(degraded)
        losses = align.losses + self.weight * loss_degree
        terms = align.terms | {
            "loss": losses,
            "loss_align": align.losses,
            **_degree_terms(degraded),
        }
        return Outcome(losses, terms, align.token_terms), after

    @override
    def symbols(self) -> dict[str, str]:
        """Return the symbols of this objective and of its base, whose parameters are called base.beta and so on."""
        base = {f"base.{key}" if key in type(self.base).model_fields else key: s for key, s in self.base.symbols().items()}
        return base | super().symbols()

    @override
    def formula_values(self, p: PairLogps, outcome: Outcome, state: State) -> dict[str, Tensor]:
        own = {} if p.degraded is None else {"loss_degree": degree_loss(p.degraded)}
        return {**self.base.formula_values(p, outcome, state), **own}

    @override
    def degraded_spec(self) -> DegradedSpec:
        return DegradedSpec(self.degrees, self.degraded_source, self.share, self.pooling, self.annotated_degrees)

    @override
    def initial_state(self) -> State:
        return self.base.initial_state()

    @override
    def first_step_loss(self) -> float | None:
        return self.base.first_step_loss()

    @override
    def dataset_state(self, batches: Iterable[PairLogps]) -> State:
        return self.base.dataset_state(batches)

    @override
    def draw(self, p: PairLogps, rng: torch.Generator) -> Draws:
        return self.base.draw(p, rng)

    @override
    def draws_before_log_probs(self) -> bool:
        return self.base.draws_before_log_probs()

    @property
    @override
    def reward_measure(self) -> str:
        return self.base.reward_measure

    @override
    def rewards(self, p: PairLogps) -> tuple[Tensor, Tensor]:
        return self.base.rewards(p)

    @override
    def warnings(self) -> list[str]:
        return super().warnings() + self.base.warnings()

    def _degraded(self, p: PairLogps) -> Degraded:
        degraded = p.degraded
        if degraded is None:
            raise ValueError(
                "spo needs degraded answers (PairLogps.degraded), which are missing; compute those that degraded_spec() describes."
            )
        shape, pairs, count = degraded.head_logits.shape, len(p), degraded.degree.shape[-1]
        if shape != (pairs, count, self.degrees) or degraded.degree.shape != shape[:2] or degraded.present.shape != shape[:2]:
            raise ValueError(
                f"spo got head_logits {tuple(shape)}, degree {tuple(degraded.degree.shape)} and present "
                f"{tuple(degraded.present.shape)}; give [B, K, N], [B, K] and [B, K] with B = {pairs} pairs and N = {self.degrees}."
            )
        return degraded


def degree_loss(degraded: Degraded) -> Tensor:
    """Compute the preference-degree loss of each pair, [B] nats: the head's cross-entropy, mean over its answers, 0 without any."""
    logits, degree = _visible(degraded)
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), degree.flatten(), reduction="none").view(degree.shape)
    return _mean(each, degraded.present)


def degree_confusion(degraded: Degraded) -> Tensor:
    """Count answers by (true degree, most probable degree of the head): [N, N] int64."""
    logits, degree = _visible(degraded)
    N = logits.shape[-1]
    cell = degree * N + logits.argmax(-1)
    return (
        torch.zeros(N * N, dtype=torch.int64, device=cell.device)
        .scatter_add(0, cell.flatten(), degraded.present.flatten().long())
        .view(N, N)
    )


def spearman(x: Tensor, y: Tensor, present: Tensor) -> Tensor:
    """Compute Spearman's rank correlation along the last axis over the present entries; ties share their mean rank.

    x, y [B, K] and present, bool [B, K] -> [B] in [-1, 1]; NaN where it is undefined (fewer than two entries, or all equal).
    """
    a, b = _centred_ranks(x, present), _centred_ranks(y, present)
    scale = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(-1) / torch.where(scale > 0, scale, 1.0), torch.nan)


def _centred_ranks(x: Tensor, present: Tensor) -> Tensor:
    x = torch.where(present, x, 0.0)
    others = present[..., None, :]
    below, equal = (x[..., None, :] < x[..., :, None]) & others, (x[..., None, :] == x[..., :, None]) & others
    ranks = (2 * below.sum(-1) + equal.sum(-1)).to(x) / 2
    return torch.where(present, ranks - _mean(ranks, present)[..., None], 0.0)


def _degree_terms(degraded: Degraded) -> dict[str, Tensor]:
    logits, degree = _visible(degraded)
    numbers = torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype)
    unmeasured = torch.full((len(degree),), torch.nan, device=logits.device, dtype=logits.dtype)
    log_ratio, some = degraded.log_ratio, degraded.present.any(-1)
    terms = {
        "loss_degree": degree_loss(degraded),
        "degree": _mean((logits.softmax(-1) * numbers).sum(-1), degraded.present),
        "degree_accuracy": _mean((logits.argmax(-1) == degree).to(logits), degraded.present),
        "rank_correlation": unmeasured if log_ratio is None else spearman(log_ratio, degree.to(log_ratio), degraded.present),
    }
    return {name: torch.where(some, value, torch.nan) for name, value in terms.items()}


def _visible(degraded: Degraded) -> tuple[Tensor, Tensor]:
    """Scores and degrees with 0 where there is no answer, so that a NaN in the padding cannot reach a sum."""
    present = degraded.present
    return torch.where(present[..., None], degraded.head_logits, 0.0), torch.where(present, degraded.degree, 0)


def _mean(values: Tensor, present: Tensor) -> Tensor:
    return torch.where(present, values, 0.0).sum(-1) / present.sum(-1).clamp(min=1)
