"""The virtual step: one optimizer step on one pair, its effect on all others measured, then rolled back."""

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
from lab.run.preflight_report import size
from lab.training.checkpoints.checkpoint import restore_optimizer_state
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.optimizer import adamw
from lab.training.step import pair_logps

from .errors import WhatIfError
from .open_model import OpenModel, Progress

OPTIMIZERS = ("adamw", "sgd")
MEASURED = ["margin", "logps_chosen", "logps_rejected"]


@dataclass(frozen=True)
class VirtualStep:
    """What one step did.

    pair: the id of the pair it was taken on.   step: optimizer steps before it.   learning_rate, optimizer: with which.
    grad_norm: length of the gradient before clipping.   moved: length of the change of all weights together.
    changes: one row a pair that was measured, the most helped first: pair, margin_before, margin_after, margin_change (in reward,
        no unit), chosen_change, rejected_change (in the answer's log-prob, nats). The pair itself is among them.
    of: how many pairs the set has.   seconds: how long it took.
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
    def own(self) -> pd.Series:
        """The row of the pair itself."""
        return self.changes[self.changes["pair"] == self.pair].iloc[0]

    @property
    def others(self) -> pd.DataFrame:
        """The rows of the other pairs, the most helped first."""
        return self.changes[self.changes["pair"] != self.pair]

    @property
    def helped(self) -> pd.DataFrame:
        """Other pairs whose margin grew, the most helped first."""
        return self.others[self.others["margin_change"] > 0]

    @property
    def hurt(self) -> pd.DataFrame:
        """Other pairs whose margin shrank, the most hurt first."""
        found = self.others[self.others["margin_change"] < 0]
        return found.iloc[::-1]


def virtual_step(
    model: OpenModel,
    pair: Pair,
    *,
    learning_rate: float | None,
    on: Sequence[Pair] | None,
    sample: int | None,
    optimizer: str,
    progress: Progress | None,
) -> VirtualStep:
    """See `Examined.virtual_step`."""
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"There is no optimizer {optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
    rate = model.rate if learning_rate is None else learning_rate
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"The learning rate {rate} cannot be; give a number from 0.")
    began = time.perf_counter()
    say = progress or (lambda message, share: None)
    others = [other for other in (model.pairs() if on is None else on) if other.id != pair.id]
    count = len(others) + 1
    if sample is not None and sample < len(others):
        others = Random(0).sample(others, sample)
    say("reading the pairs", 0.0)
    encoded = [model.encode(pair), *(model.encode(other) for other in others)]
    with model.lock:
        model.references.prepare([c for one in encoded for c in (one.chosen, one.rejected)] + list(encoded[0].completions()))
        before = _measure(model, encoded, say, 0.0)
        with _rolled_back(model, optimizer) as weights:
            norm, moved = _take(model, encoded[0], rate, optimizer, weights)
            after = _measure(model, encoded, say, 0.5)
    changes = pd.DataFrame({"pair": [one.id for one in encoded]})
    changes["margin_before"], changes["margin_after"] = before["margin"], after["margin"]
    changes["margin_change"] = after["margin"] - before["margin"]
    for side in ("chosen", "rejected"):
        changes[f"{side}_change"] = after[f"logps_{side}"] - before[f"logps_{side}"]
    changes = changes.sort_values("margin_change", ascending=False, kind="stable", ignore_index=True)
    seconds = time.perf_counter() - began
    return VirtualStep(pair.id, model.step, rate, optimizer, norm, moved, changes, count, seconds)


def _measure(model: OpenModel, encoded: Sequence[EncodedPair], say: Progress, start: float) -> pd.DataFrame:
    """Reward margin and log-probs of both answers of every pair, float64, in evaluation mode; half of the whole progress."""
    objective, found = model.objective, []
    began, done = time.monotonic(), 0
    for batch in model.batches([replace(pair, degraded=()) for pair in encoded]):
        with model.policy.evaluating():
            logps = pair_logps(model.policy, objective, batch, model.references)
        chosen, rejected = objective.rewards(logps)
        found.append(torch.stack([chosen - rejected, logps.S_w, logps.S_l]).double().cpu())
        done += len(batch)
        left = (time.monotonic() - began) / done * (len(encoded) - done + (len(encoded) if start == 0 else 0))
        when = "before" if start == 0 else "after"
        say(
            f"measuring {when} the step: {done:,} of {len(encoded):,} pairs, about {left:.0f} s left",
            start + done / len(encoded) / 2,
        )
    return pd.DataFrame(torch.cat(found, 1).numpy().T, columns=MEASURED)


def _take(model: OpenModel, pair: EncodedPair, rate: float, optimizer: str, before: Sequence[torch.Tensor]) -> tuple[float, float]:
    """One step as the loop takes it; (length of the gradient before clipping, length of the change of the weights `before`)."""
    config, parameters = model.config, model.trained()
    made: torch.optim.Optimizer
    if optimizer == "sgd":
        made = torch.optim.SGD(parameters, lr=rate)
    else:
        made = adamw(config, parameters)
        if model.stored is not None and model.keep_optimizer:
            # AdamW writes into these values, and the next question has to find them as they were.
            slots = {name: {slot: value.clone() for slot, value in values.items()} for name, values in model.stored.slots.items()}
            restore_optimizer_state(replace(model.stored, slots=slots), model.policy, made, model.degree_head, exact=False)
        for group in made.param_groups:
            group["lr"] = rate
    model.gradient([pair], model.step + 1, training=False)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm or float("inf"))
    made.step()
    moved = math.sqrt(sum(float((p.detach() - old).double().square().sum()) for p, old in zip(parameters, before)))
    return float(norm), moved


@contextmanager
def _rolled_back(model: OpenModel, optimizer: str) -> Iterator[list[torch.Tensor]]:
    """Whatever happens inside, the weights are afterwards what they were, bit for bit, and no gradient is left. Gives a copy."""
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
    """Raises WhatIfError where a copy of the weights, their gradient and the optimizer's values will not fit."""
    trained = sum(p.numel() * p.element_size() for p in parameters)
    needed = trained * (4 if optimizer == "adamw" else 2)
    free = available_bytes(model.policy.device)
    if needed > free:
        raise WhatIfError(
            f"A virtual step with {optimizer} needs {size(needed)} for a copy of the weights, their gradient and the optimizer, "
            f"but {size(free)} are free; {'try sgd, ' if optimizer == 'adamw' else ''}end other programs, or examine a smaller run."
        )
