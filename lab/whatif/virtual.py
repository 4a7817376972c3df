"""The virtual step: one optimizer step on one pair; its effect on all pairs is measured, then the step is rolled back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

import pandas as pd
import torch
from torch import nn

from lab.pairs import Pair
from lab.policy.memory import available_bytes
from lab.progress import StageProgress
from lab.run.preflight_report import size
from lab.training.checkpoints.checkpoint import restore_optimizer_state
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.optimizer import adamw

from .margins import margin_changes, margins
from .open_model import OpenModel
from .whatif_error import WhatIfError

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class VirtualStep:
    """The effect of a virtual step.

    Attributes:
        pair: Id of the pair that the step was taken on.
        step: Optimizer steps done before it.
        learning_rate: Its learning rate.
        optimizer: adamw or sgd.
        grad_norm: Norm of the gradient before clipping.
        moved: Norm of the change of all weights.
        changes: One row per measured pair, including the pair itself, by decreasing change of the margin: pair, margin_before,
            margin_after, margin_change (reward), chosen_change, rejected_change (log-prob of the answer, nats).
        of: Number of pairs in the set.
        seconds: Duration.
    """

    pair: str
    step: int
    learning_rate: float
    optimizer: str
    grad_norm: float
    moved: float
    changes: pd.DataFrame
    of: int
    seconds: float

    @property
    def own(self) -> pd.DataFrame:
        """The row of the pair itself, as a data frame with one row."""
        return self.changes[self.changes["pair"] == self.pair]

    @property
    def others(self) -> pd.DataFrame:
        """The rows of the other pairs, by decreasing change of the margin."""
        return self.changes[self.changes["pair"] != self.pair]

    @property
    def helped(self) -> pd.DataFrame:
        """The rows of other pairs whose margin grew, largest change first."""
        return self.others[self.others["margin_change"] > 0]

    @property
    def hurt(self) -> pd.DataFrame:
        """The rows of other pairs whose margin shrank, largest change first."""
        return self.others[self.others["margin_change"] < 0].iloc[::-1]


def virtual_step(
    model: OpenModel,
    pair: Pair,
    *,
    learning_rate: float | None,
    on: Sequence[Pair] | None,
    sample: int | None,
    optimizer: str,
    progress: StageProgress | None,
) -> VirtualStep:
    """Take a virtual step with an open model; see `Examined.virtual_step` for arguments and errors."""
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"There is no optimizer {optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
    rate = model.rate if learning_rate is None else learning_rate
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"learning_rate = {rate} does not work; give a finite number, 0 or more.")
    began = time.perf_counter()
    report = progress or (lambda message, share: None)
    others = [other for other in (model.pairs() if on is None else on) if other.id != pair.id]
    count = len(others) + 1
    if sample is not None and sample < len(others):
        others = Random(0).sample(others, sample)
    report("reading the pairs", 0.0)
    encoded = [model.encode(pair), *(model.encode(other) for other in others)]
    with model.lock:
        model.references.prepare([c for each in encoded for c in (each.chosen, each.rejected)] + list(encoded[0].completions()))
        before = _measure(model, encoded, report, 0.0)
        with _rolled_back(model, optimizer) as weights:
            norm, moved = _take(model, encoded[0], rate, optimizer, weights)
            after = _measure(model, encoded, report, 0.5)
    changes = margin_changes([each.id for each in encoded], before, after)
    seconds = time.perf_counter() - began
    return VirtualStep(pair.id, model.step, rate, optimizer, norm, moved, changes, count, seconds)


def _measure(model: OpenModel, encoded: Sequence[EncodedPair], report: StageProgress, start: float) -> pd.DataFrame:
    """Return `margins` of every pair, in batches; reports half of the progress."""
    measured = []
    began, done = time.monotonic(), 0
    for batch in model.batches([replace(pair, degraded=()) for pair in encoded]):
        measured.append(margins(model.policy, model.objective, batch, model.references))
        done += len(batch)
        left = (time.monotonic() - began) / done * (len(encoded) - done + (len(encoded) if start == 0 else 0))
        when = "before" if start == 0 else "after"
        report(
            f"measuring {when} the step: {done:,} of {len(encoded):,} pairs, about {left:.0f} s left",
            start + done / len(encoded) / 2,
        )
    return pd.concat(measured, ignore_index=True)


def _take(model: OpenModel, pair: EncodedPair, rate: float, optimizer: str, before: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Take one step as the training loop does; returns the norms of the gradient before clipping and of the weights' change."""
    config, parameters = model.config, model.trained()
    stepper: torch.optim.Optimizer
    if optimizer == "sgd":
        stepper = torch.optim.SGD(parameters, lr=rate)
    else:
        stepper = adamw(config, parameters)
        if model.stored is not None and model.keep_optimizer:
            # AdamW updates these tensors in place, and the next virtual step needs the original values.
            slots = {name: {slot: value.clone() for slot, value in values.items()} for name, values in model.stored.slots.items()}
            restore_optimizer_state(replace(model.stored, slots=slots), model.policy, stepper, model.degree_head, exact=False)
        for group in stepper.param_groups:
            group["lr"] = rate
    model.gradient([pair], model.step + 1, training=False)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm or float("inf"))
    stepper.step()
    moved = math.sqrt(sum(float((p.detach() - old).double().square().sum()) for p, old in zip(parameters, before)))
    return float(norm), moved


@contextmanager
def _rolled_back(model: OpenModel, optimizer: str) -> Iterator[list[torch.Tensor]]:
    """Yield a copy of the weights, and afterwards restore them bit for bit and remove all gradients, also after an error."""
    parameters = model.trained()
    _require_memory(model, parameters, optimizer)
    before = [p.detach().clone() for p in parameters]
    try:
        yield before
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, before):
                parameter.copy_(old)
        model.forget_gradients()


def _require_memory(model: OpenModel, parameters: Sequence[nn.Parameter], optimizer: str) -> None:
    """Raise WhatIfError if a copy of the weights, their gradient and the optimizer state do not fit into memory."""
    trained = sum(p.numel() * p.element_size() for p in parameters)
    needed = trained * (4 if optimizer == "adamw" else 2)
    free = available_bytes(model.policy.device)
    if needed > free:
        raise WhatIfError(
            f"A virtual step with {optimizer} needs {size(needed)} for a copy of the weights, their gradient and the optimizer, "
            f"but {size(free)} are free; {'try sgd, ' if optimizer == 'adamw' else ''}end other programs, or examine a smaller run."
        )
