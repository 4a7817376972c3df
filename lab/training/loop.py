"""The training loop: prepare, then evaluate, save, step, log until done, listening for requests at every safe point."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lab.monitor import StoreReader, StoreWriter, list_checkpoints, take
from lab.monitor.probes import ProbeBudget, split_gradients
from lab.objectives import Credited, PairLogps
from lab.pairs import Pair
from lab.policy.randomness import global_generator

from .batches import EncodedPair, generator
from .checkpoint import Progress, restore, save_checkpoint
from .config import TrainConfig
from .evaluation import Judge, Looking
from .metrics import batch_scalars, degree_scalars, host_terms, token_rows
from .prepare import Prepared, prepare
from .step import StepResult, accumulate, pair_logps

log = logging.getLogger(__name__)

PILOT = 2
"""Purpose of random numbers; see `generator`."""


OnStep = Callable[[int, dict[str, float]], None]


class Stopped(Exception):
    """Somebody asked the run to stop."""


class Training:
    """One run, from its configuration to its last checkpoint; `run()` does it all, in whatever thread calls it.

    run_dir: the run's folder.   pairs: the whole set, in its order.   model: folder or hub id.
    cache: folder for what the reference says.   judge: knows what sampled answers are worth, or None.
    resume: continue from the latest checkpoint.   on_step: told every step's scalars.
    """

    def __init__(
        self,
        run_dir: Path,
        config: TrainConfig,
        pairs: list[Pair],
        *,
        model: str,
        cache: Path,
        store: StoreWriter,
        judge: Judge | None = None,
        resume: bool = False,
        on_step: OnStep | None = None,
    ) -> None:
        self.run_dir, self.config, self.pairs, self.store = run_dir, config, pairs, store
        self.model, self.cache, self.judge = model, cache, judge
        self.resume, self.on_step = resume, on_step
        self.progress = Progress(state=config.objective.initial_state())
        self.budget = ProbeBudget(config.probe_budget)
        self.ready: Prepared | None = None
        self.step_seconds = 0.0
        self.saved_at = self.evaluated_at = -1

    def run(self) -> str:
        """Train to the end; returns "finished" or "stopped". Raises what went wrong, with everything up to then stored."""
        try:
            self._prepare()
            self._say("running")
            while self.progress.step < self.config.steps:
                if self._due(self.config.eval_every, at_start=True):
                    self._evaluate()
                if self._due(self.config.save_every):
                    self._save()
                self._listen()
                self._step()
            self._evaluate()
            self._save()
        except Stopped:
            if self.ready is not None:
                self._save()
            return "stopped"
        return "finished"

    def _prepare(self) -> None:
        config = self.config
        self.ready = prepare(
            config,
            self.store,
            self.pairs,
            model=self.model,
            cache=self.cache,
            stage=self._stage,
            warn=self._warn,
            listen=self._listen,
        )
        self.policy = self.ready.policy
        head = self.ready.degree_head
        self.parameters = [*self.policy.parameters().values(), *(head.parameters() if head is not None else ())]
        betas = (config.adam_beta1, config.adam_beta2)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, betas=betas, weight_decay=config.weight_decay, fused=True)
        if self.resume:
            self._restore()

    def _restore(self) -> None:
        assert self.ready is not None
        found = list_checkpoints(self.run_dir)
        if found:
            self.progress = restore(found[-1], self.policy, self.optimizer, self.ready.degree_head)
            self.saved_at = self.progress.step
        looks = StoreReader(self.run_dir).events("evaluation")["step"]
        if (looks == self.progress.step).any():
            self.evaluated_at = self.progress.step
        self.store.forget_after(self.progress.step)
        self.store.event(self.progress.step, "resumed", checkpoint=found[-1].name if found else None)
        if not found:
            self._warn("There is no checkpoint to resume from, so the run starts from its first step again.")

    # One step.

    def _step(self) -> None:
        config, step, ready = self.config, self.progress.step + 1, self.ready
        assert ready is not None
        began, probing = time.perf_counter(), self.budget.spent
        self._renew_dataset_state(step)
        pairs = ready.batch(step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        chosen_part: dict[str, Tensor] = {}
        probe = (lambda logps, credited: chosen_part.update(self._chosen_gradient(logps, credited))) if self.budget.due() else None
        # Dropout knows no generator but the global one.
        with global_generator(config.seed * 1_000_003 + step) if config.lora_dropout else contextlib.nullcontext():
            result = accumulate(
                self.policy,
                config.objective,
                pairs,
                self.progress.state or {},
                generator(config.seed, step, PILOT),
                reference=ready.reference,
                degree_head=ready.degree_head,
                micro_batch_size=config.micro_batch_size,
                probe=probe,
            )
        if chosen_part:
            self._record_layers(step, chosen_part)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm or float("inf"))
        self.optimizer.step()
        self.progress.step, self.progress.state = step, result.credited.state
        self.progress.tokens += int(result.logps.n_w.sum() + result.logps.n_l.sum())
        seconds = time.perf_counter() - began
        self.progress.seconds += seconds
        self.budget.trained += seconds - (self.budget.spent - probing)
        self.step_seconds = 0.9 * self.step_seconds + 0.1 * seconds if self.step_seconds else seconds
        self._record(step, pairs, result, float(norm))

    def _renew_dataset_state(self, step: int) -> None:
        """Statistics over the pairs of the run (alpha-DPO, normalize "dataset"): at the start of every epoch, and once after
        the warm-up. Before the first step policy and reference are one model: their gaps are rounding, not a spread."""
        config, ready = self.config, self.ready
        assert ready is not None
        warmed_up = step == config.warmup_steps + 1
        epoch_begins = (step - 1) * config.batch_size % ready.count < config.batch_size
        if not config.objective.needs_dataset or not (warmed_up or epoch_begins):
            return
        pairs = [replace(ready.encoded[i], weakened=()) for i in sorted(ready.encoded)]
        batches = []
        for start in range(0, len(pairs), 32):
            self._stage("statistics over the data set", start / len(pairs))
            self._listen()
            with self.policy.evaluating():
                batches.append(pair_logps(self.policy, config.objective, pairs[start : start + 32], ready.reference))
        state = config.objective.dataset_state(batches)
        self.progress.state = state | {"std": torch.zeros_like(state["std"])} if step == 1 else state
        self.store.event(step, "statistics", **{name: float(value) for name, value in self.progress.state.items()})

    def _chosen_gradient(self, logps: PairLogps, credited: Credited) -> dict[str, Tensor]:
        """Gradient of the chosen credit alone, by parameter name: one extra backward through the living graph."""
        began = time.perf_counter()
        named = self.policy.parameters()
        gradients = torch.autograd.grad(
            logps.chosen,
            list(named.values()),
            -credited.chosen / len(logps),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        self.budget.spent += time.perf_counter() - began
        return dict(zip(named, gradients))

    def _record_layers(self, step: int, chosen_part: dict[str, Tensor]) -> None:
        began = time.perf_counter()
        total = {name: p.grad for name, p in self.policy.parameters().items() if p.grad is not None}
        self.store.layers(step, split_gradients(total, chosen_part))
        self.budget.spent += time.perf_counter() - began

    def _record(self, step: int, pairs: list[EncodedPair], result: StepResult, norm: float) -> None:
        config, progress, ready = self.config, self.progress, self.ready
        assert ready is not None
        terms = host_terms(result.credited)
        scalars = (
            batch_scalars(terms)
            | degree_scalars(result)
            | {
                "learning_rate": config.rate(step),
                "grad_norm": norm,
                "epoch": step * config.batch_size / ready.count,
                "num_tokens": progress.tokens,
                "pairs_per_second": config.batch_size / self.step_seconds,
                "probe_cost": self.budget.cost,
            }
        )
        self.store.scalars(step, scalars)
        self.store.pair_terms(step, [p.id for p in pairs], [p.version for p in pairs], terms)
        self.store.tokens(step, token_rows(pairs, result))
        self.store.status(
            step=step, remaining=(config.steps - step) * self.step_seconds, seconds=progress.seconds, stage="training"
        )
        if self.on_step is not None:
            self.on_step(step, scalars)
        if step == 1:
            self._check_first_step(float(terms[config.objective.first_step_term].mean()))
        if not math.isfinite(scalars["loss"]) or not math.isfinite(norm):
            raise FloatingPointError(
                f"Loss {scalars['loss']:g} and gradient norm {norm:g} at step {step} are not finite; "
                "start a new run with a lower learning rate or beta."
            )

    def _check_first_step(self, found: float) -> None:
        """With policy = reference the loss is a known number; another one means a wrong reference, mask or sign."""
        objective = self.config.objective
        expected = objective.first_step_loss()
        if expected is None:
            return
        tolerance = 1e-4 if self.policy.autocast is None else 0.02
        passed = abs(found - expected) <= tolerance * max(1.0, abs(expected))
        self.store.event(1, "check", what="loss at the first step", expected=expected, found=found, passed=passed)
        log.info("First-step check: the loss is %.6f, expected %.6f.", found, expected)
        if not passed:
            name = objective.name
            self._warn(f"The first loss is {found:.4f} where {name} starts at {expected:.4f}: policy and reference differ already.")

    # Between steps.

    def _due(self, every: int, *, at_start: bool = False) -> bool:
        step = self.progress.step
        return at_start if step == 0 else bool(every) and step % every == 0

    def _evaluate(self) -> None:
        step = self.progress.step
        if not self.config.evaluate or self.evaluated_at == step or self.ready is None:
            return
        look = Looking(self.ready, self.model, self.cache, self.judge, self._stage, self._listen)
        pairs = self.ready.held_out
        found = look(self.config, step, self.progress.state or {})
        self.evaluated_at = step
        self._stage("training")
        if not found.scalars:
            return
        self.store.scalars(step, found.scalars)
        if found.terms:
            self.store.held_out(step, [pair.id for pair in pairs], [pair.version for pair in pairs], found.terms)
        self.store.event(step, "evaluation", **found.scalars, **found.detail)

    def _save(self) -> None:
        if self.ready is None or self.saved_at == self.progress.step:
            return
        self.store.flush()  # a run that resumes here must find in its store all that led here
        folder = save_checkpoint(
            self.run_dir, self.policy, self.optimizer, self.progress, self.ready.degree_head, keep=self.config.keep_checkpoints
        )
        self.saved_at = self.progress.step
        self.store.event(self.progress.step, "checkpoint", folder=folder.name)

    def _listen(self) -> None:
        """Do what people asked for since the last safe point; returns when the run may go on, raises Stopped when it may not."""
        paused = False
        while True:
            for request in take(self.run_dir):
                self.store.event(self.progress.step, "request", request=request.kind, **request.detail)
                if request.kind == "stop":
                    raise Stopped
                if request.kind == "checkpoint":
                    self._save()
                if request.kind in ("pause", "resume") and paused != (request.kind == "pause"):
                    paused = not paused
                    self._say("paused" if paused else "running")
            if not paused:
                return
            time.sleep(0.05)

    # Words for the people who watch.

    def _say(self, state: str) -> None:
        self.store.status(state=state)
        self.store.event(self.progress.step, "state", state=state)

    def _stage(self, stage: str, share: float | None = None, remaining: float | None = None) -> None:
        self.store.status(stage=stage, stage_share=share, stage_remaining=remaining)

    def _warn(self, words: str, **detail: Any) -> None:
        log.warning("%s", words)
        self.store.event(self.progress.step, "warning", words=words, **detail)
