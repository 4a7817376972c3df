"""Everything a run needs before its first step: the model, the pairs as tokens, the reference's log-probs, the checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lab.objectives import DegradedSpec
from lab.pairs import Pair
from lab.policy import (
    Encoder,
    LayoutCheck,
    ModelError,
    Policy,
    PromptAnswer,
    ReferenceCache,
    choose_kernel,
    choose_layout,
    largest_sizes,
    load_policy,
    sample_answers,
)
from lab.policy.memory import available_bytes, out_of_memory, retry_smaller, shorter
from lab.run.config import TrainConfig
from lab.run.preflight_report import Preflight
from lab.store import StoreWriter
from lab.training.control.stopping import StopCheck
from lab.training.data.batches import EncodedPair, degrade_answer, generator
from lab.training.data.schedule import BatchSchedule
from lab.training.data.tokenizing import Reading, read_pairs, seen
from lab.training.distributed import ALONE, Workers
from lab.training.evaluation.panel import Panel, choose_panel
from lab.training.evaluation.probes import probed_parameters, wants_panel

from . import preflight as memory_and_time

HEAD_WEIGHTS, SHARE, WEAKENED = 3, 4, 8
"""Purposes of random numbers; see `generator`."""
COMPARED_PAIRS, KERNEL_PAIRS = 2, 4
"""Pairs with which layouts are compared, and kernels timed: few, as nobody knows yet how many fit."""

SINGLE = "Answers are computed one at a time, which is much slower"


@dataclass
class RunContext:
    """What the loop works with. `encoded` holds the pairs that the run will see by their number, which is their place in `pairs`;
    `schedule` says which of them a step sees, `held_out` are those that looks compute and that are never trained on, `panel` a few of
    those."""

    config: TrainConfig
    policy: Policy
    encoder: Encoder
    schedule: BatchSchedule
    encoded: dict[int, EncodedPair]
    pairs: dict[str, Pair]
    cache: ReferenceCache
    degraded_spec: DegradedSpec | None = None
    degree_head: nn.Module | None = None
    held_out: tuple[EncodedPair, ...] = ()
    panel: Panel = field(default_factory=Panel)
    kept_apart: tuple[Pair, ...] = ()
    dropped: tuple[EncodedPair, ...] = ()
    held_out_dropped: tuple[EncodedPair, ...] = ()

    def left(self, done: int) -> Reading:
        """The pairs in use, encoded those that the steps behind `done` will see."""
        everything, numbers = list(self.pairs.values()), seen(self.config, self.schedule, done)
        return Reading(
            [everything[i] for i in self.schedule.members],
            self.schedule,
            {i: self.encoded[i] for i in numbers},
            self.dropped,
            self.kept_apart,
            self.held_out,
            self.held_out_dropped,
        )

    def batch(self, step: int) -> list[EncodedPair]:
        """The pairs of optimizer step `step` (1-based), with the weakened answers of the share that gets them."""
        config = self.config
        pairs = [self.encoded[i] for i in self.schedule.batch(step)]
        if self.degraded_spec is None:
            return pairs
        used = (torch.rand(len(pairs), generator=generator(config.seed, step, SHARE)) < self.degraded_spec.share).tolist()
        if self.degraded_spec.source == "sampled":
            return self._with_sampled_answers(step, pairs, used)
        return [pair if use else replace(pair, degraded=()) for pair, use in zip(pairs, used)]

    def reference(self, completion: PromptAnswer) -> np.ndarray | None:
        """Token log-probs [T] of the reference. None only for a sampled answer under full fine-tuning: none is left then."""
        if self._sampled_without_reference and not self.cache.holds(completion):
            return None
        return self.cache.lookup(completion)

    @property
    def _sampled_without_reference(self) -> bool:
        return self.degraded_spec is not None and self.degraded_spec.source == "sampled" and not self.policy.adapter

    def _with_sampled_answers(self, step: int, pairs: list[EncodedPair], used: list[bool]) -> list[EncodedPair]:
        """SPO's fourth source: weaken a fresh answer of the policy."""
        assert self.degraded_spec is not None
        prompts = [self.pairs[pair.id].prompt for pair, use in zip(pairs, used) if use]
        seed = generator(self.config.seed, step, WEAKENED).initial_seed()
        texts = iter(sample_answers(self.policy, prompts, seed=seed, max_length=self.config.max_length) if prompts else [])
        found = []
        for pair, use in zip(pairs, used):
            weak = (
                degrade_answer(next(texts)[0], self.pairs[pair.id], self.encoder, pair.chosen.prompt, self.degraded_spec)
                if use
                else []
            )
            found.append(replace(pair, degraded=tuple(weak)))
        if self.policy.adapter:
            self.cache.prepare(self.policy, [w.completion for pair in found for w in pair.degraded])
        return found


def prepare(
    config: TrainConfig,
    store: StoreWriter,
    stored: list[Pair],
    *,
    model: str,
    cache: Path,
    stage: Callable[..., None],
    warn: Callable[..., None],
    listen: Callable[[], None],
    catch_up: Callable[[RunContext], int] = lambda context: 0,
    workers: Workers = ALONE,
    stop_check: StopCheck | None = None,
) -> RunContext:
    """Load, encode, check, compute the reference. `stage(words, share, remaining)` reports progress, `warn(words, **detail)`
    what people should know, `listen()` is called between batches and may raise to stop. `catch_up(ready)` makes the changes of a
    run that goes on and returns the steps that are done; what is reported and computed from there on is what is left to do.
    Raises ValueError in one sentence."""
    for message in config.objective.warnings():
        warn(message, diagnosed=True)
    stage("loading the model")
    if stop_check is None:
        policy = load_configured(config, model)
    else:
        policy = stop_check.wait_for(lambda: load_configured(config, model))
        stop_check.watch(policy.model)
    encoder = policy.encoder(config.max_length)
    _check_workers(config, policy, workers)
    _check_probes(config, policy, workers, warn)
    reading = read_pairs(config, stored, encoder, policy.vocabulary, stage=stage, listen=listen)
    layout, seconds = _choose_layout(config, policy, reading.encoded)
    compared = policy.shared
    reference = ReferenceCache(cache / "reference", policy)
    context = RunContext(config, policy, encoder, reading.schedule, reading.encoded, reading.by_id(), reference)
    context.degraded_spec, context.held_out = config.objective.degraded_spec(), reading.held_out
    context.kept_apart, context.dropped, context.held_out_dropped = reading.kept_apart, reading.dropped, reading.held_out_dropped
    context.panel = _panel(config, reading, context.pairs, store)
    free = available_bytes(policy.device)
    done = catch_up(context)
    if policy.shared != compared:  # the run had another kernel before, and keeps it if that agrees
        layout = _compare_layout(config, policy, reading.encoded)
        reference.use_layout_of(policy)
    _check_layout(layout, workers)
    _record_layout(policy, layout, seconds, store, warn)
    if done < config.steps:
        stage("measuring memory and time")
        left = context.left(done)
        report = _report(context.config, policy, left, encoder, reference, done=done, free=free, workers=workers)
        if not report.memory.enough and config.micro_batch_size == "fit" and context.config.micro_batch_size != "fit":
            # What fitted before the run was interrupted does not fit any more.
            again = context.config.model_copy(update={"micro_batch_size": "fit"})
            report = _report(again, policy, left, encoder, reference, done=done, free=free, workers=workers)
            message = "Less memory is free than before the run was interrupted"
            warn(f"{message}: micro_batch_size is {report.micro_batch_size} now, which rounds differently.")
            context.config = again
        store.event(done, "preflight", **report.model_dump(mode="json"))
        store.flush()  # whoever watches can read it before the first step
        _warn_of(report, context.config, left, warn)
        memory_and_time.refuse_if_too_large(report)
        if context.config.micro_batch_size == "fit":
            whole = report.micro_batch_size * workers.world_size >= config.batch_size
            context.config = context.config.model_copy(update={"micro_batch_size": None if whole else report.micro_batch_size})
    _record_passes(context, done, workers)
    known = [*context.encoded.values(), *context.held_out]
    # Each process computes a part, and nobody is listened to meanwhile: the others could not hear it at the same moment.
    _compute_reference(
        policy,
        reference,
        known[workers.rank :: workers.world_size],
        store,
        stage,
        listen if workers.world_size == 1 else lambda: None,
    )
    workers.wait()
    if context.degraded_spec:
        context.degree_head = new_degree_head(policy, context.degraded_spec, config.seed)
    return context


def _check_workers(config: TrainConfig, policy: Policy, workers: Workers) -> None:
    """Raises ModelError for what several processes cannot do together."""
    workers.share(config.batch_size)
    if config.micro_batch is not None and config.batch_size % workers.world_size:
        raise ModelError(
            f"With micro-batches every one of {workers.world_size} processes needs as many pairs; make batch_size {config.batch_size} "
            f"a multiple of {workers.world_size}."
        )
    if workers.sharded and config.objective.degraded_spec() is not None:
        raise ModelError(
            f"{config.objective.name} trains a head of its own beside the model, which cannot be sharded yet; launch it with "
            "--multi_gpu (DDP) in place of --use_fsdp."
        )
    if workers.sharded and policy.autocast is not None and policy.adapter:
        raise ModelError(
            "A sharded model needs all weights of one type, but below an adapter they are held in bfloat16; use precision "
            "float32, or launch with --multi_gpu (DDP)."
        )


def _check_probes(config: TrainConfig, policy: Policy, workers: Workers, warn: Callable[..., None]) -> None:
    """Raises ValueError for layers to probe that are not there; says what is not probed."""
    if probed_parameters(config, policy) and workers.sharded:
        warn("The gradient is not split by layer in this run: its weights are sharded (FSDP), so no process has a whole layer.")


def _panel(config: TrainConfig, reading: Reading, pairs: dict[str, Pair], store: StoreWriter) -> Panel:
    """The pairs that are followed through the run; which they are, or why there are none, is recorded."""
    wanted = wants_panel(config)
    panel = choose_panel(reading.held_out, pairs, config.panel_pairs) if wanted else Panel()
    why = {}
    if not wanted:
        why["message"] = "This run's settings ask for no panel: evaluate is off, or panel_pairs, eval_prompts or probe_budget is 0."
    elif not panel.pairs:
        why["message"] = "This run holds no pairs out (its set is too small, or held_out is 0), so it has no panel."
    store.event(0, "panel", pairs=[pair.id for pair in panel.pairs], **why)
    return panel


def look_ahead(config: TrainConfig, stored: list[Pair], *, model: str, cache: Path, stage: Callable[..., None]) -> Preflight:
    """The report that a run with these settings would begin with, without the run. Raises ValueError as `prepare` does."""
    stage("loading the model")
    policy = load_configured(config, model)
    probed_parameters(config, policy)
    encoder = policy.encoder(config.max_length)
    reading = read_pairs(config, stored, encoder, policy.vocabulary, stage=stage, listen=lambda: None)
    _choose_layout(config, policy, reading.encoded)
    reference = ReferenceCache(cache / "reference", policy)
    try:
        stage("measuring memory and time")
        report = _report(config, policy, reading, encoder, reference)
        memory_and_time.refuse_if_too_large(report)
        return report
    finally:
        reference.close()


def _report(
    config: TrainConfig,
    policy: Policy,
    reading: Reading,
    encoder: Encoder,
    reference: ReferenceCache,
    *,
    done: int = 0,
    free: int | None = None,
    workers: Workers = ALONE,
) -> Preflight:
    completions = [c for pair in reading.encoded.values() for c in pair.completions()]
    missing = sum(len(c.prompt) + len(c.answer) for c in completions if not reference.holds(c))
    return memory_and_time.preflight(
        policy, config, reading, encoder.max_length, missing=missing, done=done, free=free, workers=workers
    )


def _warn_of(report: Preflight, config: TrainConfig, reading: Reading, warn: Callable[..., None]) -> None:
    """Say what people should think about before the run trains."""
    for finding in report.findings:
        if finding.kind != "prompt_cut" and (finding.kind != "no_held_out" or config.evaluate):  # switched off on purpose
            told = {"diagnosed": True} if finding.kind == "no_held_out" else {}  # the diagnosis says it too, on every page
            warn(finding.message, pairs=list(finding.ids), **told)
    degraded_spec = config.objective.degraded_spec()
    if degraded_spec and degraded_spec.source != "sampled" and not any(pair.degraded for pair in reading.encoded.values()):
        warn("No answer has enough key phrases to be weakened, so SPO's preference-degree loss stays 0; try fewer degrees.")


def load_configured(config: TrainConfig, model: str) -> Policy:
    """The model as the settings ask for it. Raises ModelError."""
    policy = load_policy(
        model,
        lora=config.lora,
        device=config.device,
        seed=config.seed,
        precision=config.precision,
        quantize=config.quantize,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    policy.moment = config.moment
    return policy


def _choose_layout(config: TrainConfig, policy: Policy, encoded: dict[int, EncodedPair]) -> tuple[LayoutCheck, dict[str, float]]:
    """Choose the kernel, then compare two pairs with the model's own logits and take the fastest layout that agrees; also seconds
    by kernel. Where memory runs out, the same on shorter pairs: how much the run needs is for the report to say."""
    seconds: dict[str, float] = {}
    if config.layout != "plain":
        try:
            seconds = retry_smaller(lambda few: choose_kernel(policy, few), _completions(encoded, KERNEL_PAIRS), shorter)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
    return _compare_layout(config, policy, encoded), seconds


def _compare_layout(config: TrainConfig, policy: Policy, encoded: dict[int, EncodedPair]) -> LayoutCheck:
    return retry_smaller(
        lambda few: choose_layout(policy, few, wanted=config.layout), _completions(encoded, COMPARED_PAIRS), shorter
    )


def _completions(encoded: dict[int, EncodedPair], count: int) -> list[PromptAnswer]:
    """Those of the first pairs, the last of which is the longest: windows and chunks of attention begin to matter there."""
    numbers = sorted(encoded)
    longest = max(numbers, key=lambda i: len(encoded[i].chosen.prompt) + sum(len(c.answer) for c in encoded[i].completions()))
    chosen = [i for i in numbers if i != longest][: count - 1]
    return [c for i in [*chosen, longest] for c in encoded[i].completions()]


def _check_layout(layout: LayoutCheck, workers: Workers) -> None:
    """Raises ModelError for a layout that several processes cannot have."""
    if layout.layout == "single" and workers.world_size > 1:
        raise ModelError(
            f"This model has to be computed one row at a time ({layout.reason}), which several processes cannot do in step; "
            "train it in one process."
        )


def _record_layout(
    policy: Policy, found: LayoutCheck, seconds: dict[str, float], store: StoreWriter, warn: Callable[..., None]
) -> None:
    store.event(
        0,
        "check",
        what="log-probs in the batch layout against the model's own",
        layout=found.layout,
        logits=found.logits,
        kernel=policy.shared,
        kernel_seconds=seconds,
        fused=policy.fused,
        difference=found.difference,
        reason=found.reason,
    )
    if found.logits == "whole":
        warn(f"The whole logits are computed, which is right but slower and takes more memory: {found.reason}.")
    elif found.reason is not None:
        slower = {"plain": "Every answer is computed with a prompt of its own, which is slower", "single": SINGLE}
        warn(f"{slower.get(found.layout, 'Prompts are computed once, but not in the fastest way')}: {found.reason}.")
    if found.unreached:
        warn(f"Text never reaches {', '.join(found.unreached[:3])}: the weights there stay as they are.")


def _record_passes(context: RunContext, done: int, workers: Workers) -> None:
    """On a GPU, in a single process: replay passes as CUDA graphs, in buffers for the largest batch that the run will see after
    `done` steps."""
    policy, config = context.policy, context.config
    if workers.world_size > 1 or not policy.record_passes():
        return
    assert policy.graphs is not None
    size = config.micro_batch or config.batch_size
    steps = range(done + 1, min(config.steps, done + 1000) + 1)
    batches = ([context.encoded[i] for i in context.schedule.batch(step)] for step in steps)
    parts = (pairs[start : start + size] for pairs in batches for start in range(0, len(pairs), size))
    policy.graphs.limit = largest_sizes([p.chosen for p in part] + [p.rejected for p in part] for part in parts)


def _compute_reference(
    policy: Policy,
    reference: ReferenceCache,
    pairs: list[EncodedPair],
    store: StoreWriter,
    stage: Callable[..., None],
    listen: Callable[[], None],
) -> None:
    completions = [c for pair in pairs for c in pair.completions()]
    began = time.monotonic()
    stage("computing reference log-probs", 0.0)

    def progress(done: int, total: int) -> None:
        stage("computing reference log-probs", done / total, (time.monotonic() - began) / done * (total - done))
        listen()

    computed = reference.prepare(policy, completions, progress=progress)
    store.event(0, "reference", entries=len(completions), computed=computed, seconds=round(time.monotonic() - began, 3))


def new_degree_head(policy: Policy, degraded_spec: DegradedSpec, seed: int) -> nn.Module:
    """SPO's head as a run begins with it: a linear layer from a hidden state to the scores of the degrees."""
    head = nn.Linear(policy.hidden_size, degraded_spec.degrees)
    with torch.no_grad():
        head.weight.normal_(0, policy.hidden_size**-0.5, generator=generator(seed, 0, HEAD_WEIGHTS))
        head.bias.zero_()
    return head.to(policy.device)
