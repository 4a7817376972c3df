"""SPO: any objective plus a self-supervised loss on how strongly an answer has been weakened."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from pydantic import field_serializer, field_validator
from torch import Tensor
from torch.nn.functional import cross_entropy

from lab.objectives.base import (
    Degraded,
    DegradedSpec,
    Draws,
    Objective,
    Outcome,
    PairLogps,
    State,
    make_objective,
    parameter,
    register,
)


@register
class SPO(Objective):
    """L = L_align + weight * L_PD,  L_PD = mean over the weakened answers present of cross-entropy(head(h_k), k).

    Li et al. 2024, arXiv 2409.17791 (Findings of EMNLP 2024). The paper establishes that an alignment loss and a
    preference-degree loss on answers with different amounts of key content (RAKE) removed are trained together.
    OURS, because not public: the number of degrees N, that y^(k) lacks the share k/(N-1) of its key phrases with the
    highest score first (k = 0 intact), the linear head on the last hidden state, the pooling, the weight, the share.

    The head's scores come in as `PairLogps.degraded` (K answers per pair); where none is present, L_PD of the pair is 0.
    Returns losses [B] in nats; the terms of the base objective, and
      loss_align, loss_degree   the two losses, unweighted (nats);
      degree                    mean predicted degree of the pair's answers, from the head's probabilities, in [0, N-1];
      degree_accuracy           share of the pair's answers whose degree is the head's first choice;
      rank_correlation          Spearman's, between the implicit log-ratio and the degree; -1: the reward falls with every
                                phrase removed. With source "both" it runs over the answers of both sides together.
    loss_degree and the last three are NaN where they are undefined: no answer, no log-ratio, all equal.
    Known to fail: nothing is published about it; not to be confused with other methods called SPO.
    """

    name: ClassVar[str] = "spo"
    title: ClassVar[str] = "Self-supervised Preference Optimization"
    source: ClassVar[str] = "Li et al. 2024, arXiv 2409.17791; head, degrees and weight: OURS"
    formula: ClassVar[str] = "L = L_align + λ · mean over k of CE(head(h_k), k)"
    first_step_term: ClassVar[str] = "loss_align"

    base: Objective = parameter(
        "dpo",
        "The alignment loss: a registry name, or its name and parameters.",
        symbol="L_align",
        changeable=False,
        validate_default=True,
    )
    degrees: int = parameter(
        4, "How many degrees, the intact answer included (OURS).", symbol="N", recommended=(2, 8), changeable=False, ge=2
    )
    weight: float = parameter(0.1, "Weight of the preference-degree loss (OURS).", symbol="λ", recommended=(0.0, 1.0), ge=0)
    degraded_source: Literal["chosen", "rejected", "both", "sampled"] = parameter(
        "chosen", "Which answer is weakened; sampled is a fresh one of the policy (OURS).", changeable=False
    )
    share: float = parameter(1.0, "Share of the pairs of a step that get weakened answers (OURS).", gt=0, le=1)
    pooling: Literal["last", "mean"] = parameter(
        "last",
        "The hidden state the head reads: of the last completion token, or the mean over the completion (OURS).",
        changeable=False,
    )

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
        if isinstance(value, SPO):
            raise ValueError("The base objective of spo cannot be spo again; choose another one.")
        return value

    @field_serializer("base")
    def _base_spec(self, base: Objective) -> dict[str, Any]:
        return base.spec()

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        return self.base.needs_reference

    @property
    def needs_alignment(self) -> bool:  # type: ignore[override]
        return self.base.needs_alignment

    @property
    def length_normalized(self) -> bool:  # type: ignore[override]
        return self.base.length_normalized

    @property
    def couples_pairs(self) -> bool:  # type: ignore[override]
        return self.base.couples_pairs

    def couples(self, *, training: bool) -> bool:
        return self.base.couples(training=training)

    @property
    def needs_dataset(self) -> bool:  # type: ignore[override]
        return self.base.needs_dataset

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

    def degraded_spec(self) -> DegradedSpec:
        return DegradedSpec(self.degrees, self.degraded_source, self.share, self.pooling)

    def initial_state(self) -> State:
        return self.base.initial_state()

    def first_step_loss(self) -> float | None:
        return self.base.first_step_loss()

    def dataset_state(self, batches: Iterable[PairLogps]) -> State:
        return self.base.dataset_state(batches)

    def draw(self, p: PairLogps, rng: torch.Generator) -> Draws:
        return self.base.draw(p, rng)

    def rewards(self, p: PairLogps) -> tuple[Tensor, Tensor]:
        return self.base.rewards(p)

    def warnings(self) -> list[str]:
        return super().warnings() + self.base.warnings()

    def _degraded(self, p: PairLogps) -> Degraded:
        degraded = p.degraded
        if degraded is None:
            raise ValueError(
                "spo needs the weakened answers (PairLogps.degraded), which are missing; compute what degraded_spec() asks for."
            )
        shape, pairs, count = degraded.head_logits.shape, len(p), degraded.degree.shape[-1]
        if shape != (pairs, count, self.degrees) or degraded.degree.shape != shape[:2] or degraded.present.shape != shape[:2]:
            raise ValueError(
                f"spo got head_logits {tuple(shape)}, degree {tuple(degraded.degree.shape)} and present "
                f"{tuple(degraded.present.shape)}; give [B, K, N], [B, K] and [B, K] with B = {pairs} pairs and N = {self.degrees}."
            )
        return degraded


def degree_loss(degraded: Degraded) -> Tensor:
    """L_PD of each pair, [B] nats: cross-entropy of the head, mean over the answers present; 0 where none is."""
    logits, degree = _visible(degraded)
    each = cross_entropy(logits.flatten(0, 1), degree.flatten(), reduction="none").view(degree.shape)
    return _mean(each, degraded.present)


def degree_confusion(degraded: Degraded) -> Tensor:
    """Counts [N, N] int64 over the answers present: row, the true degree; column, the head's first choice."""
    logits, degree = _visible(degraded)
    N = logits.shape[-1]
    cell = degree * N + logits.argmax(-1)
    return (
        torch.zeros(N * N, dtype=torch.int64, device=cell.device)
        .scatter_add(0, cell.flatten(), degraded.present.flatten().long())
        .view(N, N)
    )


def spearman(x: Tensor, y: Tensor, present: Tensor) -> Tensor:
    """Spearman's rank correlation along the last axis over the present entries, ties sharing their mean rank.

    [B, K], [B, K], bool [B, K] -> [B] in [-1, 1]; NaN where it is undefined (fewer than two entries, or all equal).
    """
    a, b = _centred_ranks(x, present), _centred_ranks(y, present)
    scale = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(-1) / torch.where(scale > 0, scale, 1.0), torch.nan)


def _centred_ranks(x: Tensor, present: Tensor) -> Tensor:
    x = torch.where(present, x, 0.0)
    here = present[..., None, :]
    below, equal = (x[..., None, :] < x[..., :, None]) & here, (x[..., None, :] == x[..., :, None]) & here
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
    """Scores and degrees with neutral values where no answer is, so that whatever stands there cannot reach a sum."""
    present = degraded.present
    return torch.where(present[..., None], degraded.head_logits, 0.0), torch.where(present, degraded.degree, 0)


def _mean(values: Tensor, present: Tensor) -> Tensor:
    return torch.where(present, values, 0.0).sum(-1) / present.sum(-1).clamp(min=1)
