"""The training loop: prepare, then evaluate, save, step, log until done, listening for requests at every safe point."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lab.pairs import Pair
from lab.policy import full_tensor, restore_kernel
from lab.policy.memory import out_of_memory, release_cached_memory
from lab.run.changeable import same_state
from lab.run.config import TrainConfig
from lab.store import Change, StoreWriter
from lab.store.changes import plain_changes
from lab.store.folder import STOPPING, beats_all, read_metadata, score
from lab.training.checkpoints.checkpoint import (
    Asked,
    CheckpointError,
    Stored,
    TrainingState,
    add_evaluation,
    latest_whole,
    put_back,
    put_back_optimizer,
    read_checkpoint,
)
from lab.training.checkpoints.saving import Saving
from lab.training.control.memory_guard import NOTHING_TO_SAVE, MemoryGuard, saved
from lab.training.control.steering import Steering
from lab.training.control.stopping import StopCheck, Stopped
from lab.training.data.batches import EncodedPair, step_randomness
from lab.training.data.statistics import dataset_state, statistics_due, without_spread
from lab.training.evaluation.evaluator import Evaluator, Judge
from lab.training.evaluation.probes import Probes
from lab.training.setup.branch import Start
from lab.training.setup.context import RunContext, prepare

from .distributed import ALONE, Workers
from .optimizer import adamw
from .recording import record_step
from .step import StepResult, accumulate

log = logging.getLogger(__name__)

OnStep = Callable[[int, dict[str, float]], None]


class Training:
    """One run, from its configuration to its last checkpoint; `run()` does it all, in whatever thread calls it.

    run_dir: the run's folder.   config, pairs_version: what the run was made with; people may change both in mid-run.
    pairs_at: version -> the whole set as it then was, in its order.   model: folder or hub id.
    cache: folder for what the reference says.   judge: knows what sampled answers are worth, or None.
    resume: continue from the latest checkpoint.   start: what a branch begins from.   left_out: changes that were just
    left out, for the record.   on_step: told every step's scalars.
    workers: the processes that train together; each has a Training of its own, and all do the same in step.
    """

    def __init__(
        self,
        run_dir: Path,
        config: TrainConfig,
        *,
        pairs_at: Callable[[int], list[Pair]],
        pairs_version: int,
        model: str,
        cache: Path,
        store: StoreWriter,
        judge: Judge | None = None,
        resume: bool = False,
        start: Start | None = None,
        left_out: Sequence[Change] = (),
        on_step: OnStep | None = None,
        workers: Workers = ALONE,
        guard: MemoryGuard | None = None,
    ) -> None:
        self.run_dir, self.store = run_dir, store
        self.model, self.cache, self.judge = model, cache, judge
        self.resume, self.start, self.on_step = resume, start, on_step
        self._left_out = list(left_out)
        self.workers = workers
        self.steering = Steering(
            run_dir, store, config, pairs_version=pairs_version, pairs_at=pairs_at, model=model, workers=workers
        )
        self.progress = TrainingState(state=config.objective.initial_state())
        self.context: RunContext | None = None
        self.step_seconds = 0.0
        self.saving = Saving(run_dir, store, workers)
        self.guard = guard or MemoryGuard()
        self.stop_check = StopCheck(run_dir, reason=self.guard.reason, enabled=workers.world_size == 1, noticed=self._say_stopping)
        self.stop_reason: str | None = None
        self._found: tuple[Stored | None, list[str]] = (None, [])
        self.began = time.monotonic()  # whoever starts the run puts the moment here at which it began to wait for the device
        self._clock_before = 0.0  # what an interrupted run's clock had reached at its checkpoint

    @property
    def config(self) -> TrainConfig:
        """The settings in use."""
        return self.steering.config

    def run(self) -> str:
        """Train to the end; returns "finished" or "stopped". Raises what went wrong, with everything up to then stored."""
        try:
            with self.guard:
                return self._run()
        finally:
            if self.context is not None:
                self.context.cache.close()

    def _run(self) -> str:
        try:
            self._prepare()
            self._say("running")
            while self.progress.step < self.config.steps:
                if self._due(self.config.eval_every, at_start=True):
                    self._evaluate()
                elif self.probes.look_due(self.progress.step):
                    self._stage("looking at the panel")
                    with self.stop_check.active():
                        self.probes.look(self.progress.step)
                if self._due(self.config.save_every):
                    self._try_to_save()
                self._listen(between_steps=True)
                self._step()
            self._evaluate()
            self._save()
        except Stopped as stopped:
            self._end_early(stopped.reason)
            return "stopped"
        return "finished"

    def _end_early(self, reason: str | None) -> None:
        """Save what was trained. reason: why the run stops itself; what became of its last step is added once it is known."""
        self.steering.acknowledge_stop(self.progress.step)
        outcome = NOTHING_TO_SAVE if self.context is None else ""  # the error of a checkpoint that cannot be written says the rest
        try:
            if self.context is not None:
                release_cached_memory()
                self._save()
                outcome = saved(self.progress.step)
        finally:
            if reason is not None:
                self.stop_reason = f"{reason} {outcome}".strip()
                self.warn(self.stop_reason)

    def _prepare(self) -> None:
        with self.stop_check.active():
            self.context = prepare(
                self.config,
                self.store,
                self.steering.pairs_at(self.steering.pairs_version),
                model=self.model,
                cache=self.cache,
                stage=self._stage,
                warn=self.warn,
                listen=self._listen,
                catch_up=self._catch_up,
                workers=self.workers,
                stop_check=self.stop_check,
            )
        self.steering.config = self.context.config  # with the micro-batch that fits
        config = self.config
        self.probes = Probes(config, self.policy, self.context.panel, self.store, self.workers)
        stored = self._begin()
        self.workers.wrap(self.policy)  # may put other parameters in the place of those that were there
        self._make_optimizer(stored)

    def _make_optimizer(self, stored: Stored | None) -> None:
        """AdamW over what is trained, going on from a checkpoint where there is one."""
        assert self.context is not None
        config, head = self.config, self.context.degree_head
        self.parameters = [*self.policy.parameters().values(), *(head.parameters() if head is not None else ())]
        self.optimizer = adamw(config, self.parameters)
        if stored is not None:
            exact = self.start is None or stored.folder != self.start.folder
            put_back_optimizer(stored, self.policy, self.optimizer, head, exact=exact)

    def _catch_up(self, context: RunContext) -> int:
        """Find where the run goes on and make the changes again that it had by then, before weights are put back: until then the
        policy is the reference. Returns the steps that are done."""
        self.policy, self.steering.context = context.policy, context
        latest = (lambda: latest_whole(self.run_dir, self.policy)) if self.resume else (lambda: (None, []))
        self._found = self.workers.in_turn(latest)
        stored = self._found[0]
        if self.config.micro_batch_size == "fit" and stored is not None:
            fitted = {"micro_batch_size": stored.metadata["settings"]["micro_batch_size"]}  # another would round differently
            self.steering.config = context.config = self.config.model_copy(update=fitted)
        restore_kernel(context.policy, stored.metadata if stored else read_metadata(self.start.folder) if self.start else {})
        self.steering.follow(self._from, preparing=True)
        return self._from

    @property
    def _from(self) -> int:
        """The step of what was found to go on from."""
        stored = self._found[0]
        return stored.metadata["step"] if stored else self.start.step if self.start else 0

    def _begin(self) -> Stored | None:
        """Put the run to where it goes on: its latest checkpoint, the one it branched from, or the first step. Returns the
        checkpoint from which the optimizer goes on, if there is one."""
        assert self.context is not None
        step, (stored, complaints) = self._from, self._found
        self._found = (None, [])
        if stored is not None:
            put_back(stored, self.policy, self.context.degree_head)
            self.progress, self.saving.at = stored.progress, step
            self._clock_before = self.progress.clock
        elif self.start is not None:
            stored = self._branch(self.start)
        if self.resume:
            self.store.forget_after(step)
            own = stored.folder.name if stored is not None and self.saving.at == step else None
            without = {"without": plain_changes(self._left_out)} if self._left_out else {}
            self.store.event(step, "resumed", checkpoint=own, **without, **self.steering.present())
            for message in complaints:
                self.warn(f"{message} The run goes on from the one before.")
            if own is None and self.start is None:
                self.warn("There is no checkpoint to resume from, so the run starts from its first step again.")
        self.store.status(step=step, pairs_version=self.steering.pairs_version)
        return stored

    def _branch(self, start: Start) -> Stored | None:
        """Take over what another run's checkpoint holds, as far as it fits this run; returns it where the optimizer goes on."""
        assert self.context is not None
        stored = read_checkpoint(start.folder, self.policy)
        put_back(stored, self.policy, self.context.degree_head, exact=False)
        self.progress = replace(stored.progress, evaluation=None, clock=0.0)
        if not same_state(start.objective, self.config.objective):
            self.progress.state = self.config.objective.initial_state()
        if not self.resume:
            self.store.event(start.step, "branched", parent=start.parent, **self.steering.present())
        return stored if start.keep_optimizer else None

    @property
    def clock(self) -> float:
        """Seconds that the run has taken up to now, waiting included; those between an interruption and its resumption are not."""
        return self._clock_before + time.monotonic() - self.began

    # One step.

    def _step(self) -> None:
        config, step = self.config, self.progress.step + 1
        began = time.perf_counter()
        state_before = self.progress.state
        try:
            with self.stop_check.active():
                pairs, result = self._gradient(step)
                self.probes.split()
                self.stop_check()
                norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm or float("inf")))
                self.stop_check()  # the last one: a step of the optimizer is made whole or not at all
        except BaseException as error:  # nothing of a step that is not completed stays
            self.progress.state = state_before
            self.optimizer.zero_grad(set_to_none=True)
            self.probes.forget_step()
            if isinstance(error, (RuntimeError, MemoryError)) and out_of_memory(error):
                error.__traceback__ = None  # it holds what was computed
                if self.workers.world_size == 1:  # keep the steps that were completed
                    with contextlib.suppress(CheckpointError):
                        self._save()
            raise
        self.optimizer.step()
        self._lay_out_ahead(step + 1)
        self.probes.record(step)
        self.optimizer.zero_grad(set_to_none=True)  # evaluations and checkpoints have their room
        self.progress.step, self.progress.state, self.progress.evaluation = step, result.credited.state, None
        self.progress.tokens += int(result.logps.n_w.sum() + result.logps.n_l.sum())
        seconds = time.perf_counter() - began
        self.progress.seconds += seconds
        self.probes.trained(seconds)
        self.step_seconds = 0.9 * self.step_seconds + 0.1 * seconds if self.step_seconds else seconds
        record_step(self, step, pairs, result, float(norm))

    def _gradient(self, step: int) -> tuple[list[EncodedPair], StepResult]:
        """Compute the gradient of a step; may be interrupted between any two layers and any two chunks of logits."""
        config, context = self.config, self.context
        assert context is not None
        self._renew_dataset_state(step)
        pairs = context.batch(step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        draws, dropout_seed = step_randomness(config.seed, step, drops=config.lora_dropout > 0)
        result = accumulate(
            self.policy,
            config.objective,
            pairs,
            self.progress.state or {},
            draws,
            reference=context.reference,
            degree_head=context.degree_head,
            micro_batch_size=config.micro_batch,
            probe=self.probes.probe(),
            workers=self.workers,
            dropout_seed=dropout_seed,
        )
        return pairs, result

    def _lay_out_ahead(self, step: int) -> None:
        """Before anything waits for the GPU: the next batch, as far as it is known."""
        config, context = self.config, self.context
        assert context is not None
        if (
            self.policy.device.type == "cuda"
            and step <= config.steps
            and config.micro_batch is None
            and context.degraded_spec is None
        ):
            pairs = context.batch(step)
            self.policy.prebuild_batch([p.chosen for p in pairs] + [p.rejected for p in pairs])

    def _renew_dataset_state(self, step: int) -> None:
        """Compute the statistics over the pairs of the run (alpha-DPO, normalize "dataset") where they are due."""
        config, context = self.config, self.context
        assert context is not None
        if not statistics_due(config, self.progress.state, context.schedule, step):
            return
        pairs = [replace(context.encoded[i], degraded=()) for i in sorted(context.schedule.members) if i in context.encoded]
        state = dataset_state(self.policy, config.objective, pairs, context.reference, self._stage, self._listen)
        self.progress.state = without_spread(state) if step == 1 else state
        self.store.event(step, "statistics", **{name: float(value) for name, value in self.progress.state.items()})

    # Between steps.

    def _due(self, every: int, *, at_start: bool = False) -> bool:
        step = self.progress.step
        return at_start if step == 0 else bool(every) and step % every == 0

    def _evaluate(self) -> None:
        step = self.progress.step
        if not self.config.evaluate or self.progress.evaluation is not None or self.context is None:
            return
        cache = self.cache if self.workers.world_size == 1 else None  # what one process finds there another may not yet
        look = Evaluator(self.context, self.model, cache, self.judge, self._stage, self._listen, self.stop_check)
        pairs = self.context.held_out
        try:
            with self.stop_check.active():
                found = look(self.config, step, self.progress.state or {})
                self._stage("looking at the panel")
                self.probes.look(step, free=True)
        except Exception:  # a look that fails ends the run, but not the steps that led here
            if step:
                self._try_to_save()
            raise
        self.progress.evaluation = found.scalars
        self._stage("training")
        if not found.scalars:
            return
        self.store.scalars(step, found.scalars)
        if found.terms:
            self.store.held_out(step, [pair.id for pair in pairs], [pair.version for pair in pairs], found.terms)
        self.store.event(step, "evaluation", **found.scalars, **found.detail)
        measure = self.config.keep_best
        if step == 0 and measure not in ("auto", "") and score(found.scalars, measure) is None:
            there = ", ".join(found.scalars) or "none"
            self.warn(f"keep_best is {measure}, which no evaluation has, so no checkpoint is kept as the best; there is {there}.")
        if step and self.saving.at == step:  # saved when the look was broken off
            if self.workers.is_main:
                try:
                    add_evaluation(self.run_dir, step, found.scalars)
                except OSError as error:
                    self.warn(f"The evaluation could not be added to its checkpoint ({error.strerror}). Training goes on.")
        elif step and self.workers.broadcast(beats_all(self.run_dir, found.scalars, measure)):
            self._try_to_save()

    def _try_to_save(self) -> None:
        """Save in mid-run: where the disk refuses, training goes on."""
        try:
            self._save()
        except CheckpointError as error:
            self.warn(f"{error} Training goes on.")

    def _save(self, asked: Asked | None = None) -> None:
        if self.context is not None:
            self.progress.clock = self.clock
            self.saving(self.policy, self.optimizer, self.progress, self.context.degree_head, self.steering, asked=asked)

    def _listen(self, *, between_steps: bool = False) -> None:
        """Do what people asked for since the last safe point; see `Steering.listen`."""
        self.steering.listen(self.progress.step, self._say, self._save if between_steps else None)

    # Words for the people who watch.

    def _say(self, state: str) -> None:
        self.store.status(state=state)
        self.store.event(self.progress.step, "state", state=state)

    def _say_stopping(self) -> None:
        self._stage(STOPPING)
        self.store.flush(1.0)

    def _stage(self, stage: str, share: float | None = None, remaining: float | None = None) -> None:
        self.store.status(stage=stage, stage_share=share, stage_remaining=remaining)

    def warn(self, message: str, **detail: Any) -> None:
        log.warning("%s", message)
        self.store.event(self.progress.step, "warning", message=message, **detail)
