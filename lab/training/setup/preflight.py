"""Preflight report of a run: lengths, truncated pairs, settings, and the memory and time that its steps need.

Memory (see `memory_estimate`) and time are measured with the run's own forward and backward pass on a few of its pairs, without
changing weights, gradients or random generators. Where even these pairs do not fit into memory, shorter or fewer ones are measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from lab.pairs import Pair
from lab.policy import Policy
from lab.policy.memory import available_bytes, out_of_memory, release_cached_memory, retry_smaller
from lab.policy.randomness import global_generator
from lab.policy.text.encoding import answer_room, required_length
from lab.run.config import ConfigError, TrainConfig
from lab.run.preflight_report import Finding, Lengths, Memory, Preflight, Time, size
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.data.training_pairs import TrainingPairs
from lab.training.distributed import ALONE, Workers
from lab.training.step import has_independent_pairs, pair_logps

from .memory_estimate import STEPS, MemoryEstimate, token_count

BINS, IDS = 12, 100
"""Bins of a histogram of lengths, and pair ids listed with a finding."""
HIGHEST_RATE, MANY_EPOCHS, FEW_PAIRS = 0.01, 10, 1000
"""A learning rate above the first is reported, and more epochs than the second on fewer pairs than the third. OURS."""
SECONDS = 1.0
"""Seconds that the timed batch may take; on a slower machine it has fewer pairs, at least one."""


def refuse_if_too_large(report: Preflight) -> None:
    """Raise DoesNotFit if the run needs more memory than is available."""
    if report.advice:
        raise DoesNotFit(report)


class DoesNotFit(ConfigError):
    """A run needs more memory than is available; the message advises what to change.

    Args:
        report: The preflight report, also available as an attribute.
    """

    def __init__(self, report: Preflight) -> None:
        super().__init__(report.advice or "")
        self.report = report


def preflight(
    policy: Policy,
    config: TrainConfig,
    data: TrainingPairs,
    max_length: int,
    *,
    missing: int,
    done: int = 0,
    free: int | None = None,
    workers: Workers = ALONE,
) -> Preflight:
    """Measure and return the preflight report of a run.

    Args:
        policy: The loaded model.
        config: Settings of the run.
        data: The pair set; its encoded pairs are those of the steps to come.
        max_length: Largest number of tokens of prompt and answer.
        missing: Tokens of the completions whose reference log-probs are not cached.
        done: Steps already done.
        free: Bytes that were available on the device with the model loaded; None reads them now.
        workers: The processes that train together. Memory and time are those of one process, without communication.
    """
    seen = list(data.encoded.values())
    share = -(-config.batch_size // workers.world_size)  # of the process with the most pairs
    devices = [policy.device] if policy.device.type == "cuda" else []
    release_cached_memory()
    with global_generator(0, devices):  # the adapter's dropout draws
        available = available_bytes(policy.device) if free is None else free
        batches = _batches(data, done + 1, config.steps)
        prompts = [len(pair.chosen.prompt) for pair in data.held_out]
        estimate = MemoryEstimate(policy, config, seen, batches, available, workers, prompts)
        release_cached_memory()
        fit = config.micro_batch_size == "fit"
        micro = workers.broadcast(estimate.largest(share)) or 1 if fit else min(config.micro_batch or share, share)
        memory = estimate.memory(micro)
        timing = _time_if_it_fits(policy, config, seen, micro, missing, config.steps - done, workers)
    mean = sum(map(token_count, seen)) / len(seen)
    return Preflight(
        pairs=len(data.schedule.members),
        held_out=len(data.kept_apart),
        seen=len(seen),
        prompts=len({repr(pair.prompt) for pair in data.trained()}),
        steps=config.steps,
        done=done,
        processes=workers.world_size,
        batch_size=config.batch_size,
        micro_batch_size=micro,
        max_length=max_length,
        tokens_per_epoch=round(mean * len(data.schedule.members)),
        lengths=_lengths([*seen, *data.dropped]),
        findings=(
            *pair_findings(data, max_length),
            *degree_findings(config, seen),
            *settings_findings(config, len(data.schedule.members), len(data.held_out)),
        ),
        memory=memory,
        time=timing,
        fitted=fit,
        advice=None if memory.enough and timing is not None else _advice(config, estimate, memory, micro),
    )


# The settings.


def settings_findings(config: TrainConfig, pairs: int | None, held_out: int | None) -> list[Finding]:
    """Return findings about settings that are allowed but rarely intended.

    Args:
        config: Settings of the run.
        pairs: Number of pairs to train on; None if it is not known yet.
        held_out: Number of held-out pairs that evaluations use; None if it is not known yet.
    """
    count = pairs or 0
    epochs = config.steps * config.batch_size / max(count, 1)
    checks = {
        "learning_rate": (
            config.learning_rate > HIGHEST_RATE,
            f"learning_rate = {config.learning_rate:g} is above {HIGHEST_RATE:g}, at which most models diverge within a few steps; "
            "1e-6 to 1e-4 is usual.",
        ),
        "batch_larger_than_set": (
            pairs is not None and config.batch_size > count,
            f"batch_size = {config.batch_size:,} is larger than the set of {count:,} pairs to train on, so a step uses pairs more "
            "than once.",
        ),
        "many_epochs": (
            pairs is not None and epochs > MANY_EPOCHS and count < FEW_PAIRS,
            f"{config.steps:,} steps of {config.batch_size:,} go through the {count:,} pairs {epochs:,.3g} times; so few pairs are "
            f"memorised after a few epochs; lower steps (to {max(1, 3 * count // config.batch_size):,} for 3 epochs), or add "
            "pairs.",
        ),
        "no_held_out": (
            not (config.evaluate and config.held_out) or held_out == 0,
            f"No pairs are held out ({_why_no_held_out(config)}), so the run cannot show whether it generalises to other prompts.",
        ),
    }
    return [_finding(kind, (), message, 0) for kind, (applies, message) in checks.items() if applies]


def _why_no_held_out(config: TrainConfig) -> str:
    if not config.evaluate:
        return "evaluate is off"
    return "held_out is 0" if not config.held_out else f"the set is too small for held_out = {config.held_out:g}"


# The pairs.


def pair_findings(data: TrainingPairs, max_length: int) -> list[Finding]:
    """Return findings about pairs that do not fit into `max_length` tokens, and about pairs with equal answers."""
    seen = list(data.encoded.values())
    cut = [pair for pair in seen if pair.cut]
    prompt_cut = [pair for pair in seen if pair.prompt_cut]
    same = [pair for pair in seen if pair.chosen.answer == pair.rejected.answer]
    limit = f"{max_length:,} tokens (max_length, or the model's context length)"
    room = f"tokens (of {max_length:,}, max_length or the model's context length, less the kept part of the prompt)"
    of = f"of {len(seen):,} pairs have"
    weighted = [pair for pair in seen if pair.weight != 1]
    ignored = sum(pair.weight == 0 for pair in weighted)
    held_out, held_out_dropped = data.held_out, data.held_out_dropped
    held_out_cut = [pair for pair in held_out if pair.cut]
    findings = [
        _finding(
            "refused",
            data.refused,
            f"{len(data.refused):,} pairs are left out (skip_bad_rows): the tokenizer or its chat template refuses them.",
            0,
        ),
        _finding(
            "dropped",
            data.dropped,
            f"{len(data.dropped):,} of {len(data.schedule.members) + len(data.dropped):,} pairs are left out (too_long = drop): "
            f"one of their answers is longer than {_limits(data.dropped, max_length)} {room}. "
            f"max_length = {_enough(data.dropped):,} would leave none out, if the model allows.",
            sum(pair.cut for pair in data.dropped),
        ),
        _finding(
            "answer_cut",
            cut,
            f"{len(cut):,} {of} an answer longer than {_limits(cut, max_length)} {room}; their ends "
            f"({sum(p.cut for p in cut):,} tokens) are not trained on. max_length = {_enough(cut):,} would cut none, if the model "
            "allows; too_long = drop leaves such pairs out.",
            sum(pair.cut for pair in cut),
        ),
        _finding(
            "prompt_cut",
            prompt_cut,
            f"{len(prompt_cut):,} {of} a prompt that does not fit with their answers into {limit}; its beginning is removed "
            f"({sum(p.prompt_cut for p in prompt_cut):,} tokens).",
            sum(pair.prompt_cut for pair in prompt_cut),
        ),
        _finding(
            "same",
            same,
            f"{len(same):,} {of} two answers with the same tokens after truncation; they have no training signal.",
            0,
        ),
        _finding(
            "weighted",
            weighted,
            f"{len(weighted):,} {of} a weight other than 1 ({_range(pair.weight for pair in weighted)}): a step minimises the mean "
            f"of weight times loss; {ignored:,} of them {'has' if ignored == 1 else 'have'} weight 0, which trains nothing.",
            0,
        ),
        _finding(
            "held_out_dropped",
            held_out_dropped,
            f"{len(held_out_dropped):,} of {len(held_out) + len(held_out_dropped):,} held-out pairs are left out of evaluation "
            f"(too_long = drop): one of their answers is longer than {_limits(held_out_dropped, max_length)} {room}. "
            f"max_length = {_enough(held_out_dropped):,} would leave none of them out, if the model allows.",
            sum(pair.cut for pair in held_out_dropped),
        ),
        _finding(
            "held_out_cut",
            held_out_cut,
            f"{len(held_out_cut):,} of {len(held_out):,} held-out pairs have an answer longer than "
            f"{_limits(held_out_cut, max_length)} {room}; they are evaluated without their ends "
            f"({sum(p.cut for p in held_out_cut):,} tokens). max_length = {_enough(held_out_cut):,} would cut none of them, if the "
            "model allows.",
            sum(pair.cut for pair in held_out_cut),
        ),
    ]
    return [finding for finding in findings if finding.pairs]


def degree_findings(config: TrainConfig, seen: Sequence[EncodedPair]) -> list[Finding]:
    """Return findings about annotated degrees: where they are used, that they are not, or that there are none to use."""
    objective = config.objective
    annotated = [pair for pair in seen if pair.degree is not None]
    if not annotated and not objective.uses_degree:
        return []
    if not annotated:
        message = f"{objective.name} is set to use the degrees of pairs, but none of {len(seen):,} pairs has one; annotate some."
        return [_finding("no_degree", (), message, 0)]
    use = (
        f"{objective.name} trains on it"
        if objective.uses_degree
        else f"{objective.name} does not use it with these settings (dpo, simpo and alpha_dpo do with degree_margin, spo with "
        "annotated_degrees)"
    )
    return [_finding("degree", annotated, f"{len(annotated):,} of {len(seen):,} pairs have an annotated degree; {use}.", 0)]


def _range(values: Iterable[float]) -> str:
    """Return the smallest and the largest of some numbers as text, one where they are equal; "" for none."""
    ordered = sorted(values)
    return " to ".join(dict.fromkeys(f"{value:g}" for value in (*ordered[:1], *ordered[-1:])))


def _limits(pairs: Sequence[EncodedPair], max_length: int) -> str:
    """Return how many answer tokens of these pairs fit, as text: one number, or a range where prompts differ in length."""
    rooms = sorted({answer_room(max_length, len(pair.chosen.prompt) + pair.prompt_cut) for pair in pairs})
    return " to ".join(f"{room:,}" for room in dict.fromkeys((*rooms[:1], *rooms[-1:])))


def _enough(pairs: Sequence[EncodedPair]) -> int:
    """Return the least max_length that truncates no answer of these pairs."""
    sides = ((pair, *side) for pair in pairs for side in ((pair.chosen, pair.chosen_cut), (pair.rejected, pair.rejected_cut)))
    return max((required_length(len(c.prompt) + pair.prompt_cut, len(c.answer) + cut) for pair, c, cut in sides), default=0)


def _finding(kind: str, pairs: Sequence[EncodedPair | Pair], message: str, tokens: int) -> Finding:
    return Finding(kind=kind, message=message, pairs=len(pairs), tokens=tokens, ids=tuple(pair.id for pair in pairs[:IDS]))


def _lengths(pairs: Sequence[EncodedPair]) -> dict[str, Lengths]:
    parts = {
        "prompt": [len(p.chosen.prompt) + p.prompt_cut for p in pairs],
        "chosen": [len(p.chosen.answer) + p.chosen_cut for p in pairs],
        "rejected": [len(p.rejected.answer) + p.rejected_cut for p in pairs],
    }
    return {name: _spread(np.array(lengths)) for name, lengths in parts.items()}


def _spread(lengths: np.ndarray) -> Lengths:
    longest = int(lengths.max())
    histogram = np.histogram(lengths, bins=BINS, range=(0, longest + 1))[0]
    median, p95 = np.percentile(lengths, [50, 95], method="higher")
    return Lengths(median=int(median), p95=int(p95), longest=longest, histogram=tuple(histogram.tolist()))


# Memory.


def _batches(data: TrainingPairs, first: int, last: int) -> list[list[EncodedPair]]:
    """Return the batches of steps `first` to `last`, at most `STEPS`, among which the largest batch is likely to be."""
    steps = range(first, min(last, first + STEPS - 1) + 1)
    return [[data.encoded[i] for i in data.schedule.batch(step) if i in data.encoded] for step in steps]


def _advice(config: TrainConfig, estimate: MemoryEstimate, memory: Memory, micro: int) -> str:
    """Return what to change in a run that does not fit into memory, in one sentence."""
    message = f"Training needs about {size(memory.more)} besides the weights, and {size(memory.free)} are free on {memory.device}"
    if memory.enough:
        message = f"{message}, but memory ran out in a pass of a single pair"
    elif memory.evaluation > (memory.step or 0):
        return (
            f"{message}: an evaluation takes {size(memory.evaluation)} of it; lower eval_prompts or eval_tokens, switch evaluate "
            "off, or use a smaller model."
        )
    effect = "only dropout's random numbers change" if config.lora_rank and config.lora_dropout else "it changes no result"
    fits = 0 if memory.enough else estimate.largest(micro - 1)
    if fits:
        return f"{message}: set micro_batch_size to {fits} ({effect}), or to fit, or lower max_length."
    without = estimate.memory(micro, probes=False)
    if without.enough and not memory.enough:
        less = size(memory.more - without.more)
        return (
            f"{message}: set probe_layers to a few of the layers, or probe_budget to 0 (it changes no result): probes take {less}."
        )
    if memory.gradients + memory.optimizer > memory.activations and not config.lora_rank:
        return f"{message}: train an adapter (lora_rank = 16) instead of the whole model, or a smaller model."
    steps = "set micro_batch_size to 1 and lower" if micro > 1 else "lower"
    checkpointing = "" if config.gradient_checkpointing else ", switch gradient_checkpointing on"
    return f"{message}: {steps} max_length{checkpointing}, or use a smaller model."


# Time.


def _time_if_it_fits(policy: Policy, *given: Any) -> Time | None:
    """Return `_time`, or None where memory runs out in the pass of a single pair."""
    try:
        return _time(policy, *given)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None


def _time(
    policy: Policy, config: TrainConfig, pairs: list[EncodedPair], micro: int, missing: int, steps: int, workers: Workers
) -> Time:
    ordered = sorted(pairs, key=token_count)
    forward, backward = _pass(policy, config, [ordered[len(ordered) // 2]])  # warms up, too
    count = min(micro, max(1, int(SECONDS / (forward + backward))))
    first = max((len(ordered) - count) // 2, 0)
    batch = [ordered[(first + number) % len(ordered)] for number in range(count)]  # a batch may be larger than the set

    def measured(some: list[EncodedPair]) -> tuple[float, float, int, int]:
        return *_pass(policy, config, some), sum(map(token_count, some)), len(some)

    forward, backward, tokens, count = retry_smaller(measured, batch, lambda some: some[: len(some) // 2] or None)
    mean = sum(map(token_count, pairs)) / len(pairs)
    objective = config.objective
    # Micro-batches that depend on each other need a second forward pass (see `step.accumulate`).
    twice = micro * workers.world_size < config.batch_size and not has_independent_pairs(objective, objective.initial_state())
    once = (2 if twice else 1) * forward + backward
    step = config.batch_size / workers.world_size * mean / tokens * once + _optimizer_seconds(policy)
    reference = missing / workers.world_size / tokens * forward
    return Time(step=step, reference=reference, training=steps * step, measured_pairs=count)


def _pass(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> tuple[float, float]:
    """Return the seconds of a forward and of a backward pass; the gradient is discarded."""
    began = _now(policy.device)
    logps = pair_logps(policy, config.objective, pairs, None)
    between = _now(policy.device)
    torch.autograd.grad(logps.chosen.sum() + logps.rejected.sum(), list(policy.parameters().values()), allow_unused=True)
    return between - began, _now(policy.device) - between


def _optimizer_seconds(policy: Policy, numbers: int = 1 << 20) -> float:
    """Return the estimated seconds of an AdamW step, measured on a scratch tensor of `numbers` elements."""
    scratch = torch.zeros(numbers, device=policy.device, requires_grad=True)
    scratch.grad = torch.ones_like(scratch)
    optimizer = torch.optim.AdamW([scratch], fused=True)
    optimizer.step()
    began = _now(policy.device)
    optimizer.step()
    return (_now(policy.device) - began) * sum(p.numel() for p in policy.parameters().values()) / numbers


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
