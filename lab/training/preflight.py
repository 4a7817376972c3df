"""What a run will meet, found before its first step: lengths, cuts, and how much memory and time it needs.

Memory and time are measured with the run's own forward and backward pass on a few of its pairs; no weight, no gradient and
no random generator is changed by that. What the largest batch keeps for its backward pass is extrapolated from one and two of
the longest pairs, so a run that will not fit is not tried. Where even these do not fit, shorter ones or fewer are measured.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from lab.monitor.preflight import Finding, Lengths, Memory, Preflight, Time, size
from lab.policy import Policy, fused
from lab.policy.logps import CHUNK_ELEMENTS
from lab.policy.memory import on_less, out_of_memory, shorter
from lab.policy.randomness import global_generator
from lab.policy.tokens import answer_room, enough_room

from .batches import EncodedPair
from .config import TrainConfig
from .probing import probe_copies, probed_parameters
from .reading import Reading
from .step import pair_logps, stands_alone
from .workers import ALONE, Workers

CLASSES, IDS = 12, 100
SECONDS = 1.0
"""How long the timed batch may take; a slower machine measures fewer pairs, at least one."""
COPIES = 3
"""Tensors of the size of one chunk of logits that live at the same time in its backward pass."""


def preflight(
    policy: Policy,
    config: TrainConfig,
    reading: Reading,
    max_length: int,
    *,
    missing: int,
    done: int = 0,
    free: int | None = None,
    workers: Workers = ALONE,
) -> Preflight:
    """The report on a run whose model is loaded and whose pairs are read.

    reading: the pairs in use, encoded those that are still to be seen.   max_length: tokens that fit.
    missing: tokens of the completions whose reference log-probs have to be computed.   done: steps that are done already.
    free: bytes that were free on the device once the model was loaded, where more has been loaded since.
    workers: the processes that train together: memory is that of one of them, and so is the time, which each measures while the
    others do; what they exchange is not in it.
    """
    seen = list(reading.encoded.values())
    share = -(-config.batch_size // workers.count)  # of the process with the most pairs
    micro = min(config.micro_batch_size or share, share)
    devices = [policy.device] if policy.device.type == "cuda" else []
    with global_generator(0, devices):  # the adapter's dropout draws
        there = free_memory(policy.device) if free is None else free
        memory, per_pair = _memory(policy, config, seen, micro, there, workers)
        timing = _time_if_it_fits(policy, config, seen, micro, missing, config.steps - done, workers)
    mean = sum(map(_tokens, seen)) / len(seen)
    return Preflight(
        pairs=len(reading.pairs),
        held_out=len(reading.kept_apart),
        seen=len(seen),
        prompts=len({repr(pair.prompt) for pair in reading.pairs}),
        steps=config.steps,
        done=done,
        processes=workers.count,
        batch_size=config.batch_size,
        micro_batch_size=micro,
        max_length=max_length,
        tokens_per_epoch=round(mean * len(reading.pairs)),
        lengths=_lengths([*seen, *reading.dropped]),
        findings=tuple(find(reading, max_length)),
        memory=memory,
        time=timing,
        advice=None if memory.enough and timing is not None else _advice(config, memory, per_pair, micro),
    )


# The pairs.


def find(reading: Reading, max_length: int) -> list[Finding]:
    """What happens to pairs that do not fit into `max_length` tokens."""
    seen = list(reading.encoded.values())
    cut = [pair for pair in seen if pair.cut]
    short = [pair for pair in seen if pair.prompt_cut]
    same = [pair for pair in seen if pair.chosen.answer == pair.rejected.answer]
    room = f"{max_length:,} tokens (max_length, or what the model can place)"
    less = f"tokens (of {max_length:,}, max_length or what the model can place, less what is kept of the prompt)"
    of = f"of {len(seen):,} pairs have"
    looked_at, left_out = reading.held_out, reading.held_out_dropped
    cut_in_looks = [pair for pair in looked_at if pair.cut]
    found = [
        _finding(
            "dropped",
            reading.dropped,
            f"{len(reading.dropped):,} of {len(reading.pairs) + len(reading.dropped):,} pairs are left out (too_long = drop): "
            f"an answer of theirs is longer than {_limits(reading.dropped, max_length)} {less}. "
            f"max_length = {_enough(reading.dropped):,} would leave none out, if the model allows.",
            sum(pair.cut for pair in reading.dropped),
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


def _finding(kind: str, pairs: Sequence[EncodedPair], words: str, tokens: int) -> Finding:
    return Finding(kind=kind, words=words, pairs=len(pairs), tokens=tokens, ids=tuple(pair.id for pair in pairs[:IDS]))


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


def _tokens(pair: EncodedPair) -> int:
    """Tokens of a pair, the prompt once."""
    return len(pair.chosen.prompt) + sum(len(completion.answer) for completion in pair.completions())


# Memory.


@dataclass(frozen=True)
class _PerPair:
    fixed: int
    each: int
    probes: int  # of the whole, what the probes' gradients take
    probes_in_parts: int  # what they take with micro-batches


def _memory(
    policy: Policy, config: TrainConfig, pairs: list[EncodedPair], micro: int, free: int, workers: Workers
) -> tuple[Memory, _PerPair]:
    weights = sum(_storages([*policy.model.parameters(), *policy.model.buffers()]).values())
    trained = sum(p.numel() * p.element_size() for p in policy.parameters().values())
    trained //= workers.count if workers.sharded else 1
    longest = sorted(pairs, key=_tokens)[-2:][::-1]
    one = _kept(policy, config, longest[:1])
    two = _kept(policy, config, longest) if micro > 1 and len(longest) > 1 else 2 * one
    again = 0
    if config.gradient_checkpointing:  # while one block is computed again, what it keeps is there as well
        policy.model.eval()
        again = _kept(policy, config, longest[:1]) // getattr(policy.model.config.get_text_config(), "num_hidden_layers", 1)
        policy.model.train()
    named = policy.parameters()
    probed = sum(named[name].numel() * named[name].element_size() for name in probed_parameters(config, policy))
    per_pair = _PerPair(max(2 * one - two, 0), max(two - one, 0) + again, *(probed * copies for copies in probe_copies(config)))
    logits = sum(len(c.answer) for c in longest[0].completions()) * micro * policy.vocabulary
    memory = Memory(
        device=str(policy.device),
        weights=weights,
        gradients=trained + per_pair.probes,
        optimizer=2 * trained,
        activations=per_pair.fixed + micro * per_pair.each,
        logits=_logits(policy, logits),
        free=free // workers.here if policy.device.type == "cpu" else free,
    )
    return memory, per_pair


def _logits(policy: Policy, count: int) -> int:
    """Bytes that so many logits take at most at once, with what their backward pass makes of them."""
    if policy.module.head.matrix is not None and fused.available(policy.device):
        return 4 * min(count, fused.CHUNK_ELEMENTS)  # bfloat16, and as much for what is multiplied with them
    return 4 * COPIES * min(count, CHUNK_ELEMENTS)


def _kept(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> int:
    """Bytes that autograd keeps after a forward pass, besides the weights. Of pairs that do not fit, what shorter ones keep is
    taken times the tokens that these lack."""
    tokens = sum(map(_tokens, pairs))

    def measured(some: Sequence[EncodedPair]) -> int:
        return _kept_by(policy, config, some) * tokens // sum(map(_tokens, some))

    return on_less(measured, pairs, _shorter)


def _shorter(pairs: Sequence[EncodedPair]) -> Sequence[EncodedPair] | None:
    """The same pairs, none longer than half of the longest; None where they cannot be."""
    cut = shorter([c for pair in pairs for c in pair.completions()])
    if cut is None:
        return None
    left = iter(cut)
    return [
        replace(
            pair,
            chosen=next(left),
            rejected=next(left),
            weakened=tuple(replace(weak, completion=next(left)) for weak in pair.weakened),
        )
        for pair in pairs
    ]


def _kept_by(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> int:
    own = _storages([*policy.model.parameters(), *policy.model.buffers()])
    found: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        found.append(tensor.detach())
        return found[-1]

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        pair_logps(policy, config.objective, pairs, None)
    return sum(size for pointer, size in _storages(found).items() if pointer not in own)


def _storages(tensors: Sequence[Tensor]) -> dict[int, int]:
    """Size of every piece of memory behind the tensors, by address; several tensors may look at one."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device; on the CPU no more than the process's control group allows, on a GPU with what torch
    holds and nobody uses."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:  # no such limit here
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))


def peak_memory(device: torch.device) -> int:
    """The most bytes that were taken so far: of the GPU by torch, or of the machine's memory by this whole process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _advice(config: TrainConfig, memory: Memory, per_pair: _PerPair, micro: int) -> str:
    words = f"Training needs about {size(memory.more)} besides the weights, and {size(memory.free)} are free on {memory.device}"
    if memory.enough:
        words = f"{words}, but memory ran out in a pass over a single pair"
    elif memory.more - per_pair.probes <= memory.free:
        probes = f"set probe_layers to a few of the layers, or probe_budget to 0: probes take {size(per_pair.probes)} of it"
        return f"{words}: {probes} (it changes no result)."
    left = memory.free - (memory.more - memory.activations) - per_pair.fixed
    if micro == config.batch_size:
        left -= per_pair.probes_in_parts - per_pair.probes
    fits = min(left // max(per_pair.each, 1), micro)
    same = "what dropout draws changes" if config.lora_rank and config.lora_dropout else "it changes no result"
    if 1 <= fits < micro and not memory.enough:
        return f"{words}: set micro_batch_size to {fits} ({same}), or lower max_length."
    if memory.gradients + memory.optimizer > memory.activations and not config.lora_rank:
        return f"{words}: train an adapter (lora_rank = 16) instead of the whole model, or a smaller model."
    steps = "set micro_batch_size to 1 and lower" if micro > 1 else "lower"
    checkpointing = "" if config.gradient_checkpointing else ", switch gradient_checkpointing on"
    return f"{words}: {steps} max_length{checkpointing}, or take a smaller model."


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
    ordered = sorted(pairs, key=_tokens)
    forward, backward = _pass(policy, config, [ordered[len(ordered) // 2]])  # warms up, too
    count = min(micro, max(1, int(SECONDS / (forward + backward))))
    first = max((len(ordered) - count) // 2, 0)
    batch = [ordered[(first + number) % len(ordered)] for number in range(count)]  # a batch may be larger than the set

    def measured(some: list[EncodedPair]) -> tuple[float, float, int, int]:
        return *_pass(policy, config, some), sum(map(_tokens, some)), len(some)

    forward, backward, tokens, count = on_less(measured, batch, lambda some: some[: len(some) // 2] or None)
    mean = sum(map(_tokens, pairs)) / len(pairs)
    objective = config.objective
    # Parts of a batch that depend on one another are computed once more, before the objective sees all of them.
    twice = micro * workers.count < config.batch_size and not stands_alone(objective, objective.initial_state())
    once = (2 if twice else 1) * forward + backward
    step = config.batch_size / workers.count * mean / tokens * once + _optimizer_seconds(policy)
    reference = missing / workers.count / tokens * forward
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
