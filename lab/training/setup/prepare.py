"""Preparation of a run: model, pairs, layout, memory and reference log-probs, up to the context that its loop works with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lab import process_settings
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
    restore_kernel,
)
from lab.policy.memory import available_bytes, out_of_memory, retry_smaller, shorter
from lab.run.config import TrainConfig
from lab.run.preflight_report import Preflight
from lab.store import StoreWriter
from lab.training.checkpoints.branch import Start
from lab.training.checkpoints.starting_point import StartingPoint, find_starting_point
from lab.training.control.run_changes import RunChanges
from lab.training.control.stopping import StopCheck
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.data.training_pairs import TrainingPairs, read_pairs
from lab.training.distributed import ALONE, Workers
from lab.training.evaluation.panel import Panel, choose_panel
from lab.training.evaluation.probes import panel_enabled, probed_parameters
from lab.training.reporter import RunReporter
from lab.training.run_context import RunContext, new_degree_head

from . import preflight as memory_and_time

COMPARED_PAIRS, KERNEL_PAIRS = 2, 4
"""Pairs with which layouts are compared, and kernels timed: few, because it is not known yet how many fit."""

SINGLE = "Answers are computed one at a time, which is much slower"


def prepare(
    config: TrainConfig,
    run_dir: Path,
    reporter: RunReporter,
    changes: RunChanges,
    *,
    model: str,
    cache: Path,
    poll: Callable[[], None],
    stop_check: StopCheck,
    resume: bool = False,
    branch: Start | None = None,
    workers: Workers = ALONE,
) -> tuple[RunContext, StartingPoint]:
    """Prepare a run up to its first step, with the policy still equal to the reference.

    Changes that the run had by its starting point are applied; what is measured and computed is for the steps still to come.

    Args:
        config: Settings that the run was made with.
        run_dir: Folder of the run.
        reporter: Receives stages and warnings.
        changes: The run's changes in mid-run.
        model: Folder or hub id of the model.
        cache: Folder of the reference log-probs.
        poll: Called between batches; may raise to stop.
        stop_check: Interrupts loading and passes.
        resume: Continue from the run's latest checkpoint.
        branch: The checkpoint of another run that this one begins from.
        workers: The processes that train together.

    Returns:
        The context, and the starting point whose weights are to be restored.

    Raises:
        ValueError: One sentence about settings, pairs or model that do not work.
    """
    store, warn = reporter.store, reporter.warn
    for message in config.objective.warnings():
        warn(message, diagnosed=True)
    reporter.stage("loading the model")
    policy = stop_check.wait_for(lambda: load_configured(config, model))
    stop_check.watch(policy.model)
    _check_workers(config, policy, workers)
    _check_probes(config, policy, workers, warn)
    encoder, pairs = policy.encoder(config.max_length), changes.pairs_at(changes.pairs_version)
    data = read_pairs(config, pairs, encoder, policy.vocabulary, report_stage=reporter.stage, poll=poll)
    layout, seconds = _choose_layout(config, policy, data)
    compared = policy.shared
    reference = ReferenceCache(cache / "reference", policy)
    context = RunContext(config, policy, encoder, data, reference, config.objective.degraded_spec())
    context.panel = _panel(config, data, store)
    free = available_bytes(policy.device)
    point = find_starting_point(run_dir, policy, resume=resume, branch=branch, workers=workers)
    if config.micro_batch_size == "fit" and point.own is not None:
        fitted = point.own.metadata["settings"]["micro_batch_size"]  # another size would round differently
        context.config = config.model_copy(update={"micro_batch_size": fitted})
    restore_kernel(policy, point.metadata)
    changes.replay(context, point.step, preparing=True)
    if policy.shared != compared:  # the run had another kernel before, and keeps it if that agrees
        layout = _compare_layout(config, policy, data)
        reference.use_layout_of(policy)
    _check_layout(layout, workers)
    _record_layout(policy, layout, seconds, store, warn)
    if point.step < config.steps:
        _measure(context, config, point.step, free, reporter, workers)
    _record_passes(context, point.step, workers)
    known = [*context.data.encoded.values(), *context.data.held_out]
    # Several processes compute a part each and do not poll meanwhile: they could not handle a request at the same moment.
    own, poll_here = known[workers.rank :: workers.world_size], poll if workers.world_size == 1 else lambda: None
    _compute_reference(policy, reference, own, reporter, poll_here, exclusive=workers.world_size == 1)
    workers.wait()
    if context.degraded_spec:
        context.degree_head = new_degree_head(policy, context.degraded_spec, config.seed)
    return context, point


def _measure(context: RunContext, config: TrainConfig, done: int, free: int, reporter: RunReporter, workers: Workers) -> None:
    """Record the preflight report of the steps to come, and put the micro-batch size that fits into use.

    Raises DoesNotFit where memory will not be enough.
    """
    reporter.stage("measuring memory and time")
    data = context.data.remaining(context.config, done)

    def report(settings: TrainConfig) -> Preflight:
        return _report(settings, context.policy, data, context.encoder, context.cache, done=done, free=free, workers=workers)

    measured = report(context.config)
    if not measured.memory.enough and config.micro_batch_size == "fit" and context.config.micro_batch_size != "fit":
        # What fitted before the run was interrupted does not fit any more.
        context.config = context.config.model_copy(update={"micro_batch_size": "fit"})
        measured = report(context.config)
        reporter.warn(
            "Less memory is free than before the run was interrupted: micro_batch_size is "
            f"{measured.micro_batch_size} now, which rounds differently."
        )
    reporter.store.event(done, "preflight", **measured.model_dump(mode="json"))
    reporter.store.flush()  # readers see it before the first step
    _warn_of(measured, context.config, data, reporter.warn)
    memory_and_time.refuse_if_too_large(measured)
    if context.config.micro_batch_size == "fit":
        whole = measured.micro_batch_size * workers.world_size >= config.batch_size
        fitted = None if whole else measured.micro_batch_size
        context.config = context.config.model_copy(update={"micro_batch_size": fitted})


def look_ahead(config: TrainConfig, stored: list[Pair], *, model: str, cache: Path, report_stage: Callable[..., None]) -> Preflight:
    """Return the report that a run with these settings would begin with, without the run. Raises ValueError as `prepare` does."""
    report_stage("loading the model")
    policy = load_configured(config, model)
    probed_parameters(config, policy)
    encoder = policy.encoder(config.max_length)
    data = read_pairs(config, stored, encoder, policy.vocabulary, report_stage=report_stage)
    _choose_layout(config, policy, data)
    reference = ReferenceCache(cache / "reference", policy)
    try:
        report_stage("measuring memory and time")
        report = _report(config, policy, data, encoder, reference)
        memory_and_time.refuse_if_too_large(report)
        return report
    finally:
        reference.close()


def _check_workers(config: TrainConfig, policy: Policy, workers: Workers) -> None:
    """Raise ModelError for what several processes cannot do together."""
    workers.share(config.batch_size)
    if config.micro_batch is not None and config.batch_size % workers.world_size:
        raise ModelError(
            f"With micro-batches every one of {workers.world_size} processes needs as many pairs; make batch_size "
            f"{config.batch_size} a multiple of {workers.world_size}."
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
    """Raise ValueError for layers to probe that do not exist; warn where the gradient cannot be split."""
    if probed_parameters(config, policy) and workers.sharded:
        warn("The gradient is not split by layer in this run: its weights are sharded (FSDP), so no process has a whole layer.")


def _panel(config: TrainConfig, data: TrainingPairs, store: StoreWriter) -> Panel:
    """Choose the pairs that are followed through the run; record which they are, or why there are none."""
    wanted = panel_enabled(config)
    panel = choose_panel(data.held_out, data.pairs, config.panel_pairs) if wanted else Panel()
    detail = {}
    if not wanted:
        detail["message"] = (
            "This run's settings ask for no panel: evaluate is off, or panel_pairs, eval_prompts or probe_budget is 0."
        )
    elif not panel.pairs:
        detail["message"] = "This run holds no pairs out (its set is too small, or held_out is 0), so it has no panel."
    store.event(0, "panel", pairs=[pair.id for pair in panel.pairs], **detail)
    return panel


def _report(
    config: TrainConfig,
    policy: Policy,
    data: TrainingPairs,
    encoder: Encoder,
    reference: ReferenceCache,
    *,
    done: int = 0,
    free: int | None = None,
    workers: Workers = ALONE,
) -> Preflight:
    completions = [c for pair in data.encoded.values() for c in pair.completions()]
    missing = sum(len(c.prompt) + len(c.answer) for c in completions if not reference.holds(c))
    return memory_and_time.preflight(
        policy, config, data, encoder.max_length, missing=missing, done=done, free=free, workers=workers
    )


def _warn_of(report: Preflight, config: TrainConfig, data: TrainingPairs, warn: Callable[..., None]) -> None:
    """Warn of the report's findings, except those that the settings or a curator ask for."""
    for finding in report.findings:
        if finding.kind not in ("prompt_cut", "weighted", "degree") and (finding.kind != "no_held_out" or config.evaluate):
            known = {"diagnosed": True} if finding.kind == "no_held_out" else {}  # the diagnosis reports it on every page
            warn(finding.message, pairs=list(finding.ids), **known)
    degraded_spec = config.objective.degraded_spec()
    if degraded_spec and degraded_spec.source != "sampled" and not any(pair.degraded for pair in data.encoded.values()):
        warn("No answer has enough key phrases to be degraded, so SPO's preference-degree loss stays 0; try fewer degrees.")


def load_configured(config: TrainConfig, model: str) -> Policy:
    """Load the model with the run's settings. Raises ModelError."""
    policy = load_policy(
        model,
        lora=config.lora,
        device=config.device,
        seed=config.seed,
        precision=config.precision,
        quantize=config.quantize,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    process_settings.resume_collector()  # torch and transformers are imported
    policy.moment = config.moment
    return policy


def _choose_layout(config: TrainConfig, policy: Policy, data: TrainingPairs) -> tuple[LayoutCheck, dict[str, float]]:
    """Choose the attention kernel and the fastest layout that agrees with the model's own logits; also return seconds by kernel.

    Where memory runs out, shorter pairs are compared: whether the run fits is decided by the report.
    """
    seconds: dict[str, float] = {}
    if config.layout != "plain":
        try:
            seconds = retry_smaller(lambda few: choose_kernel(policy, few), _completions(data, KERNEL_PAIRS), shorter)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
    return _compare_layout(config, policy, data), seconds


def _compare_layout(config: TrainConfig, policy: Policy, data: TrainingPairs) -> LayoutCheck:
    return retry_smaller(lambda few: choose_layout(policy, few, wanted=config.layout), _completions(data, COMPARED_PAIRS), shorter)


def _completions(data: TrainingPairs, count: int) -> list[PromptAnswer]:
    """Return all answers of the first pairs and of the longest one, where windows and chunks of attention begin to matter."""
    encoded, numbers = data.encoded, sorted(data.encoded)
    longest = max(numbers, key=lambda i: len(encoded[i].chosen.prompt) + sum(len(c.answer) for c in encoded[i].completions()))
    chosen = [i for i in numbers if i != longest][: count - 1]
    return [c for i in [*chosen, longest] for c in encoded[i].completions()]


def _check_layout(layout: LayoutCheck, workers: Workers) -> None:
    """Raise ModelError for a layout that several processes cannot have."""
    if layout.layout == "single" and workers.world_size > 1:
        raise ModelError(
            f"This model has to be computed one row at a time ({layout.reason}), which several processes cannot do in step; "
            "train it in one process."
        )


def _record_layout(
    policy: Policy, check: LayoutCheck, seconds: dict[str, float], store: StoreWriter, warn: Callable[..., None]
) -> None:
    store.event(
        0,
        "check",
        what="log-probs in the batch layout against the model's own",
        layout=check.layout,
        logits=check.logits,
        kernel=policy.shared,
        kernel_seconds=seconds,
        fused=policy.fused,
        narrow=policy.narrow,
        difference=check.difference,
        reason=check.reason,
    )
    if check.logits == "whole":
        warn(f"The whole logits are computed, which is right but slower and takes more memory: {check.reason}.")
    elif check.reason is not None:
        slower = {"plain": "Every answer is computed with a prompt of its own, which is slower", "single": SINGLE}
        warn(f"{slower.get(check.layout, 'Prompts are computed once, but not in the fastest way')}: {check.reason}.")
    if check.unreached:
        warn(f"Text never reaches {', '.join(check.unreached[:3])}: the weights there stay as they are.")


def _record_passes(context: RunContext, done: int, workers: Workers) -> None:
    """On a GPU, in a single process: replay passes as CUDA graphs, in buffers for the largest batch after `done` steps."""
    policy, config = context.policy, context.config
    if workers.world_size > 1 or not policy.record_passes():
        return
    assert policy.graphs is not None
    size = config.micro_batch or config.batch_size
    steps = range(done + 1, min(config.steps, done + 1000) + 1)
    data = context.data
    batches = ([data.encoded[number] for number in data.schedule.batch(step)] for step in steps)
    parts = (pairs[start : start + size] for pairs in batches for start in range(0, len(pairs), size))
    policy.graphs.limit = largest_sizes([p.chosen for p in part] + [p.rejected for p in part] for part in parts)


def _compute_reference(
    policy: Policy,
    reference: ReferenceCache,
    pairs: list[EncodedPair],
    reporter: RunReporter,
    poll: Callable[[], None],
    *,
    exclusive: bool,
) -> None:
    completions = [c for pair in pairs for c in pair.completions()]
    began = time.monotonic()
    stage = "computing reference log-probs"
    reporter.stage(stage, 0.0)

    def progress(done: int, total: int) -> None:
        reporter.stage(stage, done / total, (time.monotonic() - began) / done * (total - done) if done else None)
        poll()

    computed = reference.prepare(policy, completions, progress=progress, exclusive=exclusive)
    seconds = round(time.monotonic() - began, 3)
    reporter.store.event(0, "reference", entries=len(completions), computed=computed, seconds=seconds)
