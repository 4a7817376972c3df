"""Optimizer steps on the embedded world's model, one at a time: everything that a step changes, and the way back.

steps = ModelSteps(make_objective("sgdpo"), learning_rate=3e-4)
record = steps.step()              # as `lab.train` takes it; record.terms, record.tokens, record.layers, record.helped
steps.back()                       # weights and optimizer state are what they were, bit for bit
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lab.objectives import Objective, State, with_credit
from lab.progress import StageProgress
from lab.run.config import TrainConfig
from lab.training.data.encoded_pairs import EncodedPair, encode_known
from lab.training.data.random_streams import step_randomness
from lab.training.data.schedule import BatchSchedule
from lab.training.data.statistics import dataset_state, statistics_due, without_spread
from lab.training.data.training_pairs import TrainingPairs
from lab.training.evaluation.gradient_by_layer import split_gradients, with_updates
from lab.training.optimizer import adamw
from lab.training.run_context import RunContext, new_degree_head
from lab.training.step import StepResult, accumulate, pair_logps
from lab.whatif.margins import margin_changes, margins
from lab.world import World

from .step_record import ModelStep, step_terms, step_tokens
from .world_model import world_model

KEPT = 12
"""Steps that can be taken back; a snapshot of the world's model with AdamW's moments takes 7 MB."""

OTHERS = 40
"""Held-out pairs whose margins are measured after every step."""


@dataclass(frozen=True)
class _Snapshot:
    """Everything that the next step depends on: weights, optimizer state by parameter, the objective's state, held-out margins."""

    weights: list[Tensor]
    slots: list[dict[str, Tensor]]
    state: State
    margins: pd.DataFrame


class ModelSteps:
    """A model that is trained one step at a time, forwards and back.

    Its steps are those of `lab.train` on the embedded world with the same seed, a constant learning rate and no evaluations. Two
    objects with equal batch size and seed begin with the same weights and train on the same batches. It computes on the CPU, where
    a step that is taken again gives the same numbers. Safe to use from several threads.

    Args:
        objective: The objective.
        batch_size: Pairs per step.
        learning_rate: Of the next steps; may be set between two of them.
        seed: Decides the order of the pairs, random draws and SPO's head.
        others: Number of held-out pairs to measure; fewer where the world has fewer.
        kept: Number of steps that can be taken back.
        world: None for the world of `lab.world.open_world`.
        progress: Called as progress(stage, share) while the world is built or loaded.

    Attributes:
        objective: The objective.
        learning_rate: Learning rate of the next step.
        others: The held-out pairs.

    Raises:
        ConfigError: A setting is not possible.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        batch_size: int = 8,
        learning_rate: float = 3e-4,
        seed: int = 0,
        others: int = OTHERS,
        kept: int = KEPT,
        world: World | None = None,
        progress: StageProgress | None = None,
    ) -> None:
        config = TrainConfig.parse(
            objective=objective,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            schedule="constant",
            warmup_ratio=0.0,
            evaluate=False,
            probe_budget=0.0,
            device="cpu",
        )
        self.objective, self.learning_rate = objective, learning_rate
        self._start = world_model(world, progress=progress)
        self.others = tuple(self._start.held_out[:others])
        policy = self._start.policy(config)
        schedule = BatchSchedule.of(len(self._start.pairs), batch_size, seed)
        self._encoded: dict[int, EncodedPair] = {}
        data = TrainingPairs({pair.id: pair for pair in self._start.pairs}, schedule, self._encoded)
        spec = objective.degraded_spec()
        head = new_degree_head(policy, spec, seed) if spec else None
        encoder, cache = policy.encoder(config.max_length), self._start.references
        self._context = RunContext(config, policy, encoder, data, cache, spec, head)
        self._parameters = [*policy.parameters().values(), *(head.parameters() if head is not None else ())]
        self._optimizer = adamw(config, self._parameters)
        self._measured = [encode_known(pair, encoder, None, policy.vocabulary) for pair in self.others]
        self._state: State = objective.initial_state()
        with self._start.lock:
            self._start.prepare(self._measured)
            self._margins = self._measure()
        self._beginning = self._snapshot()
        self._snapshots: deque[_Snapshot] = deque(maxlen=kept)
        self._records: deque[ModelStep] = deque(maxlen=kept + 1)
        self._done = 0

    @property
    def number(self) -> int:
        """Steps done."""
        return self._done

    @property
    def current(self) -> ModelStep | None:
        """The latest step, or None before the first."""
        return self._records[-1] if self._records else None

    @property
    def can_go_back(self) -> bool:
        """Whether the latest step can be taken back."""
        return bool(self._snapshots)

    @property
    def size(self) -> int:
        """Number of trained weights of the model."""
        return sum(p.numel() for p in self._context.policy.parameters().values())

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model."""
        return self._context.policy.tokenizer

    @property
    def weights(self) -> dict[str, Tensor]:
        """Copies of the trained weights by name."""
        return {name: value.detach().clone() for name, value in self._context.policy.parameters().items()}

    def step(self) -> ModelStep:
        """Take the next optimizer step and return its record.

        Raises:
            ValueError: The learning rate is not possible, or the loss or the gradient is not finite; the model stays as it was.
        """
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise ValueError(f"learning_rate = {self.learning_rate} does not work; give a finite number, 0 or more.")
        with self._start.lock:
            before = self._snapshot()
            try:
                record = self._step(self._done + 1)
            except BaseException:
                self._restore(before)
                raise
            self._snapshots.append(before)
            self._records.append(record)
            self._done += 1
            return record

    def back(self) -> ModelStep | None:
        """Take the latest step back and return the record of the one before it, None at the beginning.

        Weights, optimizer state and the objective's statistics are restored bit for bit.

        Raises:
            ValueError: No step can be taken back.
        """
        with self._start.lock:
            if not self._snapshots:
                why = "older steps are not kept" if self._done else "no step has been taken"
                raise ValueError(f"There is no step to take back, because {why}; `reset` returns to the beginning.")
            self._restore(self._snapshots.pop())
            self._records.pop()
            self._done -= 1
            return self.current

    def reset(self) -> None:
        """Return to the weights before the first step."""
        with self._start.lock:
            self._restore(self._beginning)
            self._snapshots.clear()
            self._records.clear()
            self._done = 0

    # One step.

    def _step(self, number: int) -> ModelStep:
        began = time.perf_counter()
        context, policy, named = self._context, self._context.policy, self._context.policy.parameters()
        numbers = self._encode(context.data.schedule.batch(number))
        batch = context.batch(number)
        self._start.prepare([self._encoded[i] for i in numbers])
        self._renew_statistics(number, batch)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})

        def by_side(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
            """Differentiate each side's log-probs alone, before the step's own backward pass."""
            for part, output, gradient in zip(sides, outputs, gradients):
                parts = torch.autograd.grad(
                    output, list(named.values()), gradient, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                part.update(zip(named, parts))

        draws, _ = step_randomness(context.config.seed, number, drops=False)
        result = accumulate(
            policy,
            self.objective,
            batch,
            self._state,
            draws,
            reference=context.reference,
            degree_head=context.degree_head,
            probe=by_side,
        )
        total = {name: gradient for name, p in named.items() if (gradient := p.grad) is not None}
        layers = split_gradients(total, *sides)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, context.config.max_grad_norm or math.inf))
        loss = float(result.credited.outcome.losses.mean())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise ValueError(
                f"Step {number} was not taken, because its loss ({loss:g}) or the norm of its gradient ({norm:g}) is not finite; "
                "step back and lower the learning rate."
            )
        weights = {name: p.detach().clone() for name, p in named.items()}
        self._optimizer.step()
        self._forget_gradients()
        after = self._under_new_weights(batch, result)
        self._state = result.credited.state
        held_out, self._margins = self._margins, self._measure()
        rows = [{"step": number, **asdict(row)} for row in with_updates(layers, weights, named)]
        return ModelStep(
            number=number,
            learning_rate=self.learning_rate,
            pairs=tuple(context.data.pairs[pair.id] for pair in batch),
            terms=step_terms(batch, result),
            terms_after=step_terms(batch, after),
            tokens=step_tokens(batch, result, after),
            layers=pd.DataFrame(rows),
            grad_norm=norm,
            moved=_distance(named, weights),
            others=margin_changes([pair.id for pair in self.others], held_out, self._margins),
            seconds=time.perf_counter() - began,
        )

    def _encode(self, numbers: Sequence[int]) -> Sequence[int]:
        """Encode the training pairs of these numbers that are not encoded yet; return the numbers."""
        context = self._context
        for number in numbers:
            if number not in self._encoded:
                pair = self._start.pairs[number]
                self._encoded[number] = encode_known(pair, context.encoder, context.degraded_spec, context.policy.vocabulary)
        return numbers

    def _renew_statistics(self, number: int, batch: Sequence[EncodedPair]) -> None:
        """Compute the statistics over all training pairs (alpha-DPO, normalize "dataset") where a run would."""
        context = self._context
        if not statistics_due(context.config, self._state, context.data.schedule, number):
            return
        pairs = [replace(pair, degraded=()) for pair in batch]
        if number > 1:  # before the first step policy and reference agree, so that any pairs give the same statistics
            pairs = [replace(self._encoded[i], degraded=()) for i in self._encode(sorted(context.data.schedule.members))]
            self._start.prepare(pairs)
        state = dataset_state(context.policy, self.objective, pairs, context.reference, lambda text, share: None, lambda: None)
        self._state = without_spread(state) if number == 1 else state

    def _under_new_weights(self, batch: Sequence[EncodedPair], result: StepResult) -> StepResult:
        """Compute the batch again, with the draws of the step and the statistics from before it."""
        context = self._context
        with torch.no_grad():
            logps = pair_logps(context.policy, self.objective, batch, context.reference, context.degree_head)
        return StepResult(with_credit(self.objective, logps, self._state, result.draws, training=True), logps, result.draws)

    def _measure(self) -> pd.DataFrame:
        return margins(self._context.policy, self.objective, self._measured, self._context.reference)

    # Back.

    def _snapshot(self) -> _Snapshot:
        state = self._optimizer.state
        return _Snapshot(
            weights=[p.detach().clone() for p in self._parameters],
            slots=[{slot: value.clone() for slot, value in state[p].items()} if p in state else {} for p in self._parameters],
            state=dict(self._state),
            margins=self._margins,
        )

    def _restore(self, snapshot: _Snapshot) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._parameters, snapshot.weights):
                parameter.copy_(value)
        self._optimizer.state.clear()
        for parameter, slots in zip(self._parameters, snapshot.slots):
            if slots:  # AdamW updates its tensors in place, and the snapshot may be restored again
                self._optimizer.state[parameter] = {slot: value.clone() for slot, value in slots.items()}
        self._state, self._margins = dict(snapshot.state), snapshot.margins
        self._forget_gradients()

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _distance(named: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float((p.detach() - before[name]).double().square().sum()) for name, p in named.items()))
