"""What a run will meet, found before its first step: lengths, cuts, and how much memory and time it needs.

Memory (see `memory_estimate`) and time are measured with the run's own forward and backward pass on a few of its pairs; no
weight, no gradient and no random generator is changed by that. A run that will not fit is refused before its first step. Where
even the measured pairs do not fit, shorter ones or fewer are measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lab.policy import Policy
from lab.policy.memory import available_bytes, on_less, out_of_memory, release
from lab.policy.randomness import global_generator
from lab.policy.text.tokens import answer_room, enough_room
from lab.run.config import ConfigError, TrainConfig
from lab.run.preflight_report import Finding, Lengths, Memory, Preflight, Time, size
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.data.training_pairs import TrainingPairs
from lab.training.distributed import ALONE, Workers
from lab.training.step import has_independent_pairs, pair_logps

from .memory_estimate import STEPS, MemoryEstimate, tokens_of

CLASSES, IDS = 12, 100
HIGHEST_RATE, MANY_EPOCHS, FEW_PAIRS = 0.01, 10, 1000
"""Above this learning rate, and above so many epochs on fewer pairs than this, a run is warned of."""
SECONDS = 1.0
"""How long the timed batch may take; a slower machine measures fewer pairs, at least one."""


def refuse_if_too_large(report: Preflight) -> None:
    """Raise DoesNotFit where memory will not be enough for the run."""
    if report.advice:
        raise DoesNotFit(report)


class DoesNotFit(ConfigError):
    """A run that needs more memory than is free, in one sentence with what to do. report: all that was measured."""

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
    """The report on a run whose model is loaded and whose pairs are read.

    data: the pairs in use, encoded those that are still to be seen.   max_length: tokens that fit.
    missing: tokens of the completions whose reference log-probs have to be computed.   done: steps that are done already.
    free: bytes that were free on the device once the model was loaded, where more has been loaded since.
    workers: the processes that train together: memory is that of one of them, and so is the time, which each measures while the
    others do; what they exchange is not in it.
    """
    seen = list(data.encoded.values())
    share = -(-config.batch_size // workers.world_size)  # of the process with the most pairs
    devices = [policy.device] if policy.device.type == "cuda" else []
    release()
    with global_generator(0, devices):  # the adapter's dropout draws
        there = available_bytes(policy.device) if free is None else free
        batches = _batches(data, done + 1, config.steps)
        prompts = [len(pair.chosen.prompt) for pair in data.held_out]
        estimate = MemoryEstimate(policy, config, seen, batches, there, workers, prompts)
        release()
        fit = config.micro_batch_size == "fit"
        micro = workers.broadcast(estimate.largest(share)) or 1 if fit else min(config.micro_batch or share, share)
        memory = estimate.memory(micro)
        timing = _time_if_it_fits(policy, config, seen, micro, missing, config.steps - done, workers)
    mean = sum(map(tokens_of, seen)) / len(seen)
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
        findings=(*find(data, max_length), *settings_findings(config, len(data.schedule.members), len(data.held_out))),
        memory=memory,
        time=timing,
        fitted=fit,
        advice=None if memory.enough and timing is not None else _advice(config, estimate, memory, micro),
    )


# The settings.


def settings_findings(config: TrainConfig, pairs: int | None, held_out: int | None) -> list[Finding]:
    """Find settings that can work but seldom mean well.

    pairs: number of pairs to train on.   held_out: number of pairs that evaluations compute. None: not known yet, so that only the
    settings themselves are looked at.
    """
    count = pairs or 0
    epochs = config.steps * config.batch_size / max(count, 1)
    checks = {
        "learning_rate": (
            config.learning_rate > HIGHEST_RATE,
            f"learning_rate = {config.learning_rate:g} is above {HIGHEST_RATE:g}, at which most models fall apart within a few "
            "steps; 1e-6 to 1e-4 is usual.",
        ),
        "batch_larger_than_set": (
            pairs is not None and config.batch_size > count,
            f"batch_size = {config.batch_size:,} is larger than the set of {count:,} pairs to train on, so that a step sees pairs "
            "more than once.",
        ),
        "many_epochs": (
            pairs is not None and epochs > MANY_EPOCHS and count < FEW_PAIRS,
            f"{config.steps:,} steps of {config.batch_size:,} go through the {count:,} pairs {epochs:,.3g} times; so few pairs are "
            f"memorised after a few epochs, so lower steps (to {max(1, 3 * count // config.batch_size):,} for 3 epochs), or add "
            "pairs.",
        ),
        "no_held_out": (
            not (config.evaluate and config.held_out) or held_out == 0,
            f"No pairs are held out ({_why_none(config)}), so nothing will show whether the run learns more than its pairs.",
        ),
    }
    return [_finding(kind, (), message, 0) for kind, (applies, message) in checks.items() if applies]


def _why_none(config: TrainConfig) -> str:
    if not config.evaluate:
        return "evaluate is off"
    return "held_out is 0" if not config.held_out else f"the set is too small for held_out = {config.held_out:g}"


# The pairs.


def find(data: TrainingPairs, max_length: int) -> list[Finding]:
    """What happens to pairs that do not fit into `max_length` tokens."""
    seen = list(data.encoded.values())
    cut = [pair for pair in seen if pair.cut]
    short = [pair for pair in seen if pair.prompt_cut]
    same = [pair for pair in seen if pair.chosen.answer == pair.rejected.answer]
    room = f"{max_length:,} tokens (max_length, or what the model can place)"
    less = f"tokens (of {max_length:,}, max_length or what the model can place, less what is kept of the prompt)"
    of = f"of {len(seen):,} pairs have"
    looked_at, left_out = data.held_out, data.held_out_dropped
    cut_in_looks = [pair for pair in looked_at if pair.cut]
    found = [
        _finding(
            "dropped",
            data.dropped,
            f"{len(data.dropped):,} of {len(data.schedule.members) + len(data.dropped):,} pairs are left out (too_long = drop): "
            f"an answer of theirs is longer than {_limits(data.dropped, max_length)} {less}. "
            f"max_length = {_enough(data.dropped):,} would leave none out, if the model allows.",
            sum(pair.cut for pair in data.dropped),
        ),
        _finding(
            "answer_cut",
            cut,
            f"{len(cut):,} {of} an answer longer than {_limits(cut, max_length)} {less}; their ends "
            f"({sum(p.cut for p in cut):,} tokens) are not trained on. max_length = {_enough(cut):,} would cut none, if the model "
            "allows; too_long = drop leaves such pairs out.",
            sum(pair.cut for pair in cut),
        ),
        _finding(
            "prompt_cut",
            short,
            f"{len(short):,} {of} a prompt that does not fit before their answers into {room}; it loses its beginning "
            f"({sum(p.prompt_cut for p in short):,} tokens).",
            sum(pair.prompt_cut for pair in short),
        ),
        _finding(
            "same",
            same,
            f"{len(same):,} {of} two answers that are the same tokens, as this tokenizer reads them and as far as they fit; "
            "they teach nothing.",
            0,
        ),
        _finding(
            "held_out_dropped",
            left_out,
            f"{len(left_out):,} of {len(looked_at) + len(left_out):,} held-out pairs are left out of evaluation (too_long = drop): "
            f"an answer of theirs is longer than {_limits(left_out, max_length)} {less}. "
            f"max_length = {_enough(left_out):,} would leave none of them out, if the model allows.",
            sum(pair.cut for pair in left_out),
        ),
        _finding(
            "held_out_cut",
            cut_in_looks,
            f"{len(cut_in_looks):,} of {len(looked_at):,} held-out pairs have an answer longer than "
            f"{_limits(cut_in_looks, max_length)} {less}; evaluation sees them without their ends "
            f"({sum(p.cut for p in cut_in_looks):,} tokens). max_length = {_enough(cut_in_looks):,} would cut none of them, if the "
            "model allows.",
            sum(pair.cut for pair in cut_in_looks),
        ),
    ]
    return [finding for finding in found if finding.pairs]


def _limits(pairs: Sequence[EncodedPair], max_length: int) -> str:
    """How many tokens fit of the answers of these pairs: one number, or the least and the most where short prompts leave more."""
    rooms = sorted({answer_room(max_length, len(pair.chosen.prompt) + pair.prompt_cut) for pair in pairs})
    return " to ".join(f"{room:,}" for room in dict.fromkeys((*rooms[:1], *rooms[-1:])))


def _enough(pairs: Sequence[EncodedPair]) -> int:
    """The least max_length that cuts no answer of these pairs."""
    sides = ((pair, *side) for pair in pairs for side in ((pair.chosen, pair.chosen_cut), (pair.rejected, pair.rejected_cut)))
    return max((enough_room(len(c.prompt) + pair.prompt_cut, len(c.answer) + cut) for pair, c, cut in sides), default=0)


def _finding(kind: str, pairs: Sequence[EncodedPair], message: str, tokens: int) -> Finding:
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
    histogram = np.histogram(lengths, bins=CLASSES, range=(0, longest + 1))[0]
    median, p95 = np.percentile(lengths, [50, 95], method="higher")
    return Lengths(median=int(median), p95=int(p95), longest=longest, histogram=tuple(histogram.tolist()))


# Memory.


def _batches(data: TrainingPairs, first: int, last: int) -> list[list[EncodedPair]]:
    """The pairs of steps `first` to `last`, of so many that the largest batch is likely among them."""
    steps = range(first, min(last, first + STEPS - 1) + 1)
    return [[data.encoded[i] for i in data.schedule.batch(step) if i in data.encoded] for step in steps]


def _advice(config: TrainConfig, estimate: MemoryEstimate, memory: Memory, micro: int) -> str:
    """What to do where a run does not fit."""
    message = f"Training needs about {size(memory.more)} besides the weights, and {size(memory.free)} are free on {memory.device}"
    if memory.enough:
        message = f"{message}, but memory ran out in a pass over a single pair"
    elif memory.evaluation > (memory.step or 0):
        return (
            f"{message}: an evaluation takes {size(memory.evaluation)} of it; lower eval_prompts or eval_tokens, switch evaluate "
            "off, or take a smaller model."
        )
    same = "what dropout draws changes" if config.lora_rank and config.lora_dropout else "it changes no result"
    fits = 0 if memory.enough else estimate.largest(micro - 1)
    if fits:
        return f"{message}: set micro_batch_size to {fits} ({same}), or to fit, or lower max_length."
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
    return f"{message}: {steps} max_length{checkpointing}, or take a smaller model."


# Time.


def _time_if_it_fits(policy: Policy, *given: Any) -> Time | None:
    """What `_time` gives, or None where memory runs out in the pass of one pair."""
    try:
        return _time(policy, *given)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None


def _time(
    policy: Policy, config: TrainConfig, pairs: list[EncodedPair], micro: int, missing: int, steps: int, workers: Workers
) -> Time:
    ordered = sorted(pairs, key=tokens_of)
    forward, backward = _pass(policy, config, [ordered[len(ordered) // 2]])  # warms up, too
    count = min(micro, max(1, int(SECONDS / (forward + backward))))
    first = max((len(ordered) - count) // 2, 0)
    batch = [ordered[(first + number) % len(ordered)] for number in range(count)]  # a batch may be larger than the set

    def measured(some: list[EncodedPair]) -> tuple[float, float, int, int]:
        return *_pass(policy, config, some), sum(map(tokens_of, some)), len(some)

    forward, backward, tokens, count = on_less(measured, batch, lambda some: some[: len(some) // 2] or None)
    mean = sum(map(tokens_of, pairs)) / len(pairs)
    objective = config.objective
    # Parts of a batch that depend on one another are computed once more, before the objective sees all of them.
    twice = micro * workers.world_size < config.batch_size and not has_independent_pairs(objective, objective.initial_state())
    once = (2 if twice else 1) * forward + backward
    step = config.batch_size / workers.world_size * mean / tokens * once + _optimizer_seconds(policy)
    reference = missing / workers.world_size / tokens * forward
    return Time(step=step, reference=reference, training=steps * step, measured_pairs=count)


def _pass(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> tuple[float, float]:
    """Seconds of a forward and a backward pass; the gradient is thrown away."""
    began = _now(policy.device)
    logps = pair_logps(policy, config.objective, pairs, None)
    between = _now(policy.device)
    torch.autograd.grad(logps.chosen.sum() + logps.rejected.sum(), list(policy.parameters().values()), allow_unused=True)
    return between - began, _now(policy.device) - between


def _optimizer_seconds(policy: Policy, numbers: int = 1 << 20) -> float:
    """Seconds of an AdamW step, measured on a million numbers that belong to nobody."""
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
