"""Batches for the tests: made from the golden file, from lists of token log-probs, or at random."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from lab.objectives import OBJECTIVES, Credited, Degraded, Draws, Objective, PairLogps, State, make_objective, with_credit

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "golden.json").read_text())["cases"]
TOKEN_FIELDS = ("chosen", "rejected", "ref_chosen", "ref_rejected", "align_chosen", "align_rejected")


def padded(rows: Sequence[Sequence[float]], dtype: torch.dtype = torch.float64, fill: float = 0.0) -> Tensor:
    """[B, T] from lists of unequal length."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True, padding_value=fill)


def pairs_of(pairs: Sequence[Mapping[str, Any]], dtype: torch.dtype = torch.float64) -> PairLogps:
    """PairLogps from one mapping a pair: chosen, rejected and perhaps ref_*, align_*, each a list of token values."""
    values: dict[str, Any] = {name: padded([pair[name] for pair in pairs], dtype) for name in TOKEN_FIELDS if name in pairs[0]}
    masks: dict[str, Any] = {
        f"{side}_mask": padded([[1] * len(pair[side]) for pair in pairs]).bool() for side in ("chosen", "rejected")
    }
    return PairLogps(**values, **masks)


def random_pairs(
    seed: int,
    lengths: Sequence[tuple[int, int]] = ((3, 2), (2, 4), (4, 4)),
    *,
    dtype: torch.dtype = torch.float64,
    spread: float = 0.5,
    objective: Objective | None = None,
) -> PairLogps:
    """Random token log-probs with a reference `spread` nats away; alignment and weakened answers where `objective` wants them."""
    rng = torch.Generator().manual_seed(seed)
    pairs = []
    for n_w, n_l in lengths:
        pair: dict[str, list[float]] = {}
        for side, n in (("chosen", n_w), ("rejected", n_l)):
            ref = -0.1 - 3 * torch.rand(n, generator=rng, dtype=torch.float64)
            policy = (ref + spread * torch.randn(n, generator=rng, dtype=torch.float64)).clamp(max=-1e-3)
            pair |= {side: policy.tolist(), f"ref_{side}": ref.tolist()}
            pair[f"align_{side}"] = (-2 * torch.rand(n, generator=rng, dtype=torch.float64)).tolist()
        pairs.append(pair)
    p = pairs_of(pairs, dtype)
    if objective is not None and objective.uses_degree:  # the first pair has none
        p = replace(p, pair_degree=torch.arange(len(p), dtype=dtype) / max(len(p) - 1, 1))
    wanted = objective.degraded_spec() if objective is not None else None
    return p if wanted is None else with_degraded(p, wanted.degrees, rng)


def with_degraded(p: PairLogps, degrees: int, rng: torch.Generator) -> PairLogps:
    """Add one answer of every degree to each pair; the last pair lacks its last one."""
    B = len(p)
    present = torch.ones(B, degrees, dtype=torch.bool)
    present[-1, -1] = False
    degraded = Degraded(
        head_logits=torch.randn(B, degrees, degrees, generator=rng, dtype=p.chosen.dtype),
        degree=torch.arange(degrees).expand(B, degrees),
        present=present,
        log_ratio=torch.randn(B, degrees, generator=rng, dtype=p.chosen.dtype),
    )
    return replace(p, degraded=degraded)


def start(objective: Objective, p: PairLogps, seed: int = 0) -> tuple[State, Draws]:
    """A state and a draw to call the objective with."""
    state = objective.dataset_state([p]) if objective.needs_dataset else objective.initial_state()
    return state, objective.draw(p, torch.Generator().manual_seed(seed))


def credit_of(objective: Objective, p: PairLogps, *, training: bool = True) -> Credited:
    return with_credit(objective, p, *start(objective, p), training=training)


def variants() -> Iterator[Any]:
    """Every registered objective: with its defaults, and with each choice and switch of it set the other way."""
    for name, kind in OBJECTIVES.items():
        yield make_objective(name)
        for key, info in kind.model_fields.items():
            if get_origin(info.annotation) is Literal:
                choices = [choice for choice in get_args(info.annotation) if choice != info.default]
            else:
                choices = [not info.default] if info.annotation is bool else []
            for choice in choices:
                with contextlib.suppress(ValueError):  # refused, because unused with the other defaults
                    yield make_objective(name, **{key: choice})


def label(objective: Objective) -> str:
    changed = {k: v for k, v in objective.spec().items() if k in objective.model_fields_set}
    return "-".join([objective.name, *(f"{k}={v}" for k, v in changed.items())])
