"""The training loop: evaluate, save and step until all steps are done, handling requests at every safe point."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lab.pairs import Pair
from lab.policy import Policy, full_tensor
from lab.policy.memory import out_of_memory, release_cached_memory
from lab.run.checkpoints import CheckpointPurpose
from lab.run.config import TrainConfig
from lab.store import Change, StoreWriter
from lab.store.changes import plain_changes
from lab.store.folder import beats_all, score
from lab.training.checkpoints.branch import Start
from lab.training.checkpoints.checkpoint import CheckpointError, TrainingState, add_evaluation
from lab.training.checkpoints.saver import CheckpointSaver
from lab.training.checkpoints.starting_point import StartingPoint, restore, restore_optimizer
from lab.training.control.memory_guard import NOTHING_TO_SAVE, MemoryGuard, saved_message
from lab.training.control.request_handler import RequestHandler
from lab.training.control.run_changes import RunChanges, changeable_values
from lab.training.control.stopped import Stopped
from lab.training.control.stopping import StopCheck
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.data.random_streams import step_randomness
from lab.training.data.statistics import dataset_state, statistics_due, without_spread
from lab.training.evaluation.evaluator import Evaluation, Evaluator, Judge
from lab.training.evaluation.probes import Probes
from lab.training.run_context import RunContext
from lab.training.setup.prepare import prepare

from .distributed import ALONE, Workers
from .optimizer import adamw
from .recording import record_step, require_finite
from .reporter import RunReporter
from .step import StepResult, accumulate

log = logging.getLogger(__name__)

OnStep = Callable[[int, dict[str, float]], None]


class Training:
    """One run from its configuration to its last checkpoint; `run()` trains in the calling thread.

    Args:
        run_dir: Folder of the run.
        config: Settings that the run was made with; they may change while it trains.
        pairs_at: Returns the pair set of a version, in its order.
        newest_version: Returns the newest version of the pair set.
        pairs_version: Version of the pair set that the run was made with.
        model: Folder or hub id.
        cache: Folder of reference log-probs and answers.
        store: The run's store.
        judge: Scores sampled answers, or None.
        resume: Continue from the latest checkpoint.
        start: The checkpoint of another run that a branch begins from.
        left_out: Changes that were just left out, for the record.
        on_step: Receives step and scalars of every step.
        workers: The processes that train together; each has a Training of its own.
        guard: Stops the run before memory runs out.
    """

    def __init__(
        self,
        run_dir: Path,
        config: TrainConfig,
        *,
        pairs_at: Callable[[int], list[Pair]],
        newest_version: Callable[[], int],
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
        self.run_dir, self.store, self.workers = run_dir, store, workers
        self.model, self.cache, self.judge = model, cache, judge
        self.resume, self.start, self.left_out, self.on_step = resume, start, list(left_out), on_step
        self.reporter = RunReporter(store)
        self.changes = RunChanges(
            run_dir,
            store,
            pairs_version=pairs_version,
            pairs_at=pairs_at,
            newest_version=newest_version,
            model=model,
            workers=workers,
        )
        self.requests = RequestHandler(run_dir, self.reporter, self.changes, workers)
        self.saver = CheckpointSaver(run_dir, self.reporter, self.changes, workers)
        self.guard = guard or MemoryGuard()
        self.stop_check = StopCheck(
            run_dir, reason=self.guard.reason, enabled=workers.world_size == 1, noticed=self.reporter.stopping
        )
        self.stop_reason: str | None = None
        self.context: RunContext | None = None
        self.state = TrainingState(objective_state=config.objective.initial_state())
        self.step_seconds = 0.0
        self.began = time.monotonic()  # `lifecycle.start` sets it to the moment at which the run began to wait for its device
        self._config = config
        self._clock_before = 0.0  # seconds on the clock of an interrupted run at its checkpoint

    @property
    def config(self) -> TrainConfig:
        """The settings in use."""
        return self.context.config if self.context is not None else self._config

    @property
    def policy(self) -> Policy:
        """The model in training."""
        return self._prepared().policy

    @property
    def clock(self) -> float:
        """Seconds since the run began, waiting included, without the time between an interruption and its resumption."""
        return self._clock_before + time.monotonic() - self.began

    def run(self) -> str:
        """Train to the end; return "finished" or "stopped". Errors are raised once everything up to then is stored."""
        try:
            with self.guard:
                return self._run()
        finally:
            if self.context is not None:
                self.context.cache.close()

    def _run(self) -> str:
        try:
            context = self._prepare()
            self.reporter.state("running")
            while self.state.step < self.config.steps:
                if self._due(self.config.eval_every, at_start=True):
                    self._evaluate()
                elif self.probes.panel_due(self.state.step):
                    self.reporter.stage("computing the panel")
                    with self.stop_check.active():
                        self.probes.compute_panel(self.state.step)
                if self._due(self.config.save_every):
                    self._try_to_save()
                self.requests.poll_between_steps(context, self._save)
                self._step()
            self._evaluate()
            self._save()
        except Stopped as stopped:
            self._end_early(stopped.reason)
            return "stopped"
        return "finished"

    def _end_early(self, reason: str | None) -> None:
        """Save what was trained. reason: why the run stops by itself, or None for a requested stop."""
        outcome = NOTHING_TO_SAVE if self.context is None else ""  # a failed checkpoint raises its own error
        try:
            try:  # short of memory nothing is handled that could need more of it
                self.requests.finish(self.context if reason is None else None, self._save)
            except Exception as error:  # the checkpoint of the steps that were trained is more important
                self.reporter.warn(f"A request could not be handled before the run stopped ({type(error).__name__}: {error}).")
            if self.context is not None:
                release_cached_memory()
                self._save()
                outcome = saved_message(self.state.step)
        finally:
            if reason is not None:
                self.stop_reason = f"{reason} {outcome}".strip()
                self.reporter.warn(self.stop_reason)

    # Preparation.

    def _prepare(self) -> RunContext:
        with self.stop_check.active():
            context, point = prepare(
                self.config,
                self.run_dir,
                self.reporter,
                self.changes,
                model=self.model,
                cache=self.cache,
                poll=self.requests.poll,
                stop_check=self.stop_check,
                resume=self.resume,
                branch=self.start,
                workers=self.workers,
            )
        self.context = context
        self.probes = Probes(context.config, context.policy, context.panel, self.store, self.workers)
        restored = restore(point, context.policy, context.degree_head, context.config.objective)
        self.state, self.reporter.step = restored.state, point.step
        if point.own is not None:
            self.saver.saved_step, self._clock_before = point.step, self.state.clock
        self._record_start(point)
        self.workers.wrap(context.policy)  # may replace the parameters
        head = context.degree_head
        self.parameters = [*context.policy.parameters().values(), *(head.parameters() if head is not None else ())]
        self.optimizer = adamw(context.config, self.parameters)
        restore_optimizer(restored, context.policy, self.optimizer, head)
        return context

    def _record_start(self, point: StartingPoint) -> None:
        """Record where the run begins or continues, with the settings in use there."""
        present = {"settings": changeable_values(self.config), "pairs_version": self.changes.pairs_version}
        if self.start is not None and not self.resume:
            self.store.event(point.step, "branched", parent=self.start.parent, **present)
        if self.resume:
            self.store.forget_after(point.step)
            own = point.own.folder.name if point.own is not None else None
            without = {"without": plain_changes(self.left_out)} if self.left_out else {}
            self.store.event(point.step, "resumed", checkpoint=own, **without, **present)
            for message in point.damaged:
                self.reporter.warn(f"{message} The run goes on from the one before.")
            if own is None and self.start is None:
                self.reporter.warn("There is no checkpoint to resume from, so the run starts from its first step again.")
        self.store.status(step=point.step, pairs_version=self.changes.pairs_version)

    def _prepared(self) -> RunContext:
        assert self.context is not None, "the run is not prepared yet"
        return self.context

    # One step.

    def _step(self) -> None:
        context, config, state = self._prepared(), self.config, self.state
        step, objective_state = state.step + 1, state.objective_state
        began, paused = time.perf_counter(), self.requests.paused_seconds
        try:
            with self.stop_check.active():
                self._renew_dataset_state(step)
                pairs, result = self._gradient(step)
                self.probes.split()
                self.stop_check()
                norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm or float("inf")))
                self.stop_check()  # the last one: the optimizer step must not be interrupted
        except BaseException as error:  # nothing of a step that is not completed stays
            state.objective_state = objective_state
            self.optimizer.zero_grad(set_to_none=True)
            self.probes.forget_step()
            if isinstance(error, (RuntimeError, MemoryError)) and out_of_memory(error):
                error.__traceback__ = None  # the traceback keeps activations alive
                if self.workers.world_size == 1:  # keep the steps that were completed
                    with contextlib.suppress(CheckpointError):
                        self._save()
            raise
        self.optimizer.step()
        self._lay_out_ahead(step + 1)
        self.probes.record(step)
        self.optimizer.zero_grad(set_to_none=True)  # leaves memory to evaluations and checkpoints
        state.step, state.objective_state, state.evaluation = step, result.credited.state, None
        state.tokens += int(result.logps.n_w.sum() + result.logps.n_l.sum())
        seconds = time.perf_counter() - began - (self.requests.paused_seconds - paused)
        state.seconds += seconds
        self.probes.trained(seconds)
        self.step_seconds = 0.9 * self.step_seconds + 0.1 * seconds if self.step_seconds else seconds
        self.reporter.step = step
        scalars = record_step(
            context,
            state,
            self.reporter,
            pairs,
            result,
            grad_norm=float(norm),
            step_seconds=self.step_seconds,
            clock=self.clock,
            probe_cost=self.probes.cost,
        )
        if self.on_step is not None:
            self.on_step(step, scalars)
        require_finite(step, scalars["loss"], float(norm))

    def _gradient(self, step: int) -> tuple[list[EncodedPair], StepResult]:
        """Compute the gradient of a step; may be interrupted between any two layers and any two chunks of logits."""
        context, config = self._prepared(), self.config
        pairs = context.batch(step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        draws, dropout_seed = step_randomness(config.seed, step, drops=config.lora_dropout > 0)
        result = accumulate(
            context.policy,
            config.objective,
            pairs,
            self.state.objective_state or {},
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
        """Lay out the next batch on the GPU before anything waits for it, as far as it is known."""
        context, config = self._prepared(), self.config
        known = config.micro_batch is None and context.degraded_spec is None
        if context.policy.device.type == "cuda" and step <= config.steps and known:
            pairs = context.batch(step)
            context.policy.prebuild_batch([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs])

    def _renew_dataset_state(self, step: int) -> None:
        """Compute the statistics over all training pairs (alpha-DPO, normalize "dataset") where they are due before a step."""
        context, config = self._prepared(), self.config
        data = context.data
        if not statistics_due(config, self.state.objective_state, data.schedule, step):
            return
        pairs = [replace(data.encoded[i], degraded=()) for i in sorted(data.schedule.members) if i in data.encoded]
        state = dataset_state(context.policy, config.objective, pairs, context.reference, self.reporter.stage, self.requests.poll)
        self.state.objective_state = without_spread(state) if step == 1 else state
        self.store.event(step, "statistics", **{name: float(value) for name, value in self.state.objective_state.items()})

    # Between steps.

    def _due(self, every: int, *, at_start: bool = False) -> bool:
        step = self.state.step
        return at_start if step == 0 else bool(every) and step % every == 0

    def _evaluate(self) -> None:
        """Evaluate the policy on held-out pairs and prompts, record it, and keep the best checkpoint."""
        context, step = self._prepared(), self.state.step
        if not self.config.evaluate or self.state.evaluation is not None:
            return
        cache = self.cache if self.workers.world_size == 1 else None  # one process may find there what another does not yet
        evaluate = Evaluator(context, self.model, cache, self.judge, self.reporter, self.requests.poll, self.stop_check)
        try:
            with self.stop_check.active():
                evaluation = evaluate(self.config, step, self.state.objective_state or {})
                self.reporter.stage("computing the panel")
                self.probes.compute_panel(step, free=True)
        except Exception:  # an evaluation that fails ends the run, but keeps the steps that led here
            if step:
                self._try_to_save()
            raise
        self.state.evaluation = evaluation.scalars
        self.reporter.stage("training")
        if evaluation.scalars:
            self._record_evaluation(context, evaluation, step)

    def _record_evaluation(self, context: RunContext, evaluation: Evaluation, step: int) -> None:
        pairs, measure = context.data.held_out, self.config.keep_best
        self.store.scalars(step, evaluation.scalars)
        if evaluation.terms:
            self.store.held_out(step, [pair.id for pair in pairs], [pair.version for pair in pairs], evaluation.terms)
        self.store.event(step, "evaluation", **evaluation.scalars, **evaluation.detail)
        if step == 0 and measure not in ("auto", "") and score(evaluation.scalars, measure) is None:
            known = ", ".join(evaluation.scalars) or "none"
            self.reporter.warn(
                f"keep_best is {measure}, which no evaluation has, so no checkpoint is kept as the best; there is {known}."
            )
        if step and self.saver.saved_step == step:  # saved when the evaluation was interrupted
            if self.workers.is_main:
                try:
                    add_evaluation(self.run_dir, step, evaluation.scalars)
                except OSError as error:
                    self.reporter.warn(f"The evaluation could not be added to its checkpoint ({error.strerror}). Training goes on.")
        elif step and self.workers.broadcast(beats_all(self.run_dir, evaluation.scalars, measure)):
            self._try_to_save()

    def _try_to_save(self) -> None:
        """Save in mid-run: where the disk refuses, training goes on."""
        try:
            self._save()
        except CheckpointError as error:
            self.reporter.warn(f"{error} Training goes on.")

    def _save(self, purpose: CheckpointPurpose | None = None) -> None:
        self.state.clock = self.clock
        self.saver.save(self._prepared(), self.optimizer, self.state, purpose)
