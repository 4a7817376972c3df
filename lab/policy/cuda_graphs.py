"""Forward and backward passes of a whole batch as CUDA graphs, recorded once per size and replayed for every batch that fits.

A small model's pass is thousands of short kernels, and the CPU takes several times longer to launch them one by one than the GPU
takes to compute them. A graph launches them all at once. It needs the same shapes at the same addresses every time, so a batch
is copied into slightly larger buffers: its tokens are followed by padding sequences, which no token attends to and which get no
credit. Nothing is recorded where several processes train together.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lab.policy.kernels.attention import Group, SharedRow
from lab.policy.kernels.device_copy import copy_to_device

from .kernels import varlen
from .layout import Batch, PromptAnswer

log = logging.getLogger(__name__)

ROOM = 1.125
"""Size of new buffers relative to the batch they are made for, where the largest batch is unknown."""
WASTE = 1.34
"""A recorded pass is used for a batch if it computes at most this many times the batch's tokens."""
MOST = 6
"""Maximum number of recorded passes; batches that fit none of them are computed without a graph."""
STEP, MARGIN = 128, 16
"""Sizes are multiples of the first; the second is the least number of padding tokens, one for each padding sequence."""


@dataclass(frozen=True)
class Sizes:
    """Buffer sizes for one row.

    tokens:    Tokens of the row.
    copies:    Keys that are copies of a prompt's (see `varlen.Sequences`).
    reads:     Hidden states that are read.
    sequences: Sequences of attention.
    longest:   Tokens of the longest sequence.
    """

    tokens: int
    copies: int
    reads: int
    sequences: int
    longest: int

    @property
    def keys(self) -> int:
        """Keys of attention: tokens and copies."""
        return self.tokens + self.copies


def sizes(groups: Sequence[Group], reads: int) -> Sizes:
    """Compute the sizes of a row of groups of which `reads` hidden states are read."""
    first = [group.prompt + group.answers[0] for group in groups]
    others = [(group.prompt, answer) for group in groups for answer in group.answers[1:] if answer]
    return Sizes(
        tokens=sum(group.length for group in groups),
        copies=sum(prompt for prompt, _ in others),
        reads=reads,
        sequences=len(first) + len(others),
        longest=max([*first, *(p + a for p, a in others)]),
    )


def largest_sizes(batches: Iterable[Sequence[PromptAnswer]]) -> Sizes:
    """Compute the maximum of each size over batches, without building them."""
    maxima = [0, 0, 0, 0, 0]
    for completions in batches:
        together: dict[tuple[int, ...], list[int]] = {}
        for completion in completions:
            together.setdefault(completion.prompt_key, []).append(len(completion.answer) - 1)
        groups = [Group(len(prompt), tuple(answers)) for prompt, answers in together.items()]
        batch = sizes(groups, sum(len(c.answer) for c in completions))
        maxima = [max(a, b) for a, b in zip(maxima, astuple(batch))]
    return Sizes(*maxima)


def capacity(needed: Sizes, limit: Sizes | None) -> Sizes:
    """Choose buffer sizes for a batch: somewhat more than it needs, at most `limit`, the maximum over all batches.

    Use `limit` if it is close to the batch's needs.
    """
    near = limit is not None and limit.tokens <= 0.9 * WASTE * needed.tokens

    def padded(name: str, step: int, extra: int) -> int:
        own = getattr(needed, name)
        wanted = int(ROOM * own)
        if limit is not None and getattr(limit, name) >= own:
            most = getattr(limit, name)
            wanted = most if near else min(wanted, most)
        return -(-(wanted + extra) // step) * step

    tokens, copies, longest = padded("tokens", STEP, MARGIN), padded("copies", STEP, 0), padded("longest", STEP, MARGIN)
    spare = (int((tokens + copies) * (1 - 1 / WASTE)) + 5 * STEP) // (longest - 2) + 1
    return Sizes(tokens, copies, padded("reads", STEP, 0), padded("sequences", 4, spare), longest)


def paddings(needed: Sizes, buffer_sizes: Sizes) -> int:
    """Count the padding sequences needed to fill the buffers with none longer than `buffer_sizes.longest`."""
    return -(-(buffer_sizes.keys - needed.keys) // (buffer_sizes.longest - 2))


def fits(needed: Sizes, buffer_sizes: Sizes) -> bool:
    """Return whether a batch fits into buffers of these sizes without much waste."""
    return (
        needed.tokens + MARGIN <= buffer_sizes.tokens <= max(WASTE * needed.tokens, needed.tokens + 3 * STEP)
        and needed.copies <= buffer_sizes.copies  # so that padding has as many keys as tokens
        and paddings(needed, buffer_sizes) <= min(buffer_sizes.sequences - needed.sequences, MARGIN)
        and needed.reads <= buffer_sizes.reads
        and needed.longest <= buffer_sizes.longest
    )


class Buffers:
    """A batch of fixed size on a device, into which smaller batches are copied."""

    def __init__(self, buffer_sizes: Sizes, device: torch.device) -> None:
        self.sizes = buffer_sizes

        def numbers(count: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(count, dtype=dtype, device=device)

        self.ids, self.positions = numbers(buffer_sizes.tokens)[None], numbers(buffer_sizes.tokens)[None]
        self.reads, self.targets, self.source = numbers(buffer_sizes.reads), numbers(buffer_sizes.reads), numbers(buffer_sizes.keys)
        self.queries, self.keys = numbers(buffer_sizes.sequences + 1, torch.int32), numbers(buffer_sizes.sequences + 1, torch.int32)
        row = SharedRow((), device, "varlen")
        row.__dict__["sequences"] = varlen.Sequences(
            self.queries, self.keys, self.source, buffer_sizes.longest, buffer_sizes.longest
        )
        self.batch = Batch(self.ids, self.positions, None, row, self.reads, self.targets, self.reads, self.reads, (), ())

    def write(self, batch: Batch) -> None:
        """Copy a batch into the buffers and fill the rest with padding."""
        assert batch.shared is not None
        assert batch.positions is not None
        sequences, tokens, reads = batch.shared.sequences, batch.ids.shape[1], len(batch.reads)
        own, keys = len(sequences.queries), len(sequences.source)
        self.ids[0, :tokens] = batch.ids[0]
        self.ids[0, tokens:] = 0
        self.positions[0, :tokens] = batch.positions[0]
        self.positions[0, tokens:] = 0
        self.reads[:reads] = batch.reads
        self.reads[reads:] = tokens
        self.targets[:reads] = batch.targets
        self.targets[reads:] = 0
        self.source[:keys] = sequences.source
        self.source[keys:] = tokens
        # Each padding sequence has at least one token and as many keys as tokens; the sequences after them are empty.
        left, more = self.sizes.tokens - tokens, self.sizes.copies - (keys - tokens)
        parts = -(-(left + more) // (self.sizes.longest - 2))
        empty = len(self.queries) - own - parts
        ends = [tokens + left * (part + 1) // parts for part in range(parts)] + [self.sizes.tokens] * empty
        further = [keys - tokens + more * (part + 1) // parts for part in range(parts)] + [self.sizes.copies] * empty
        behind = copy_to_device([ends, [a + b for a, b in zip(ends, further)]], self.queries.device)
        self.queries[:own], self.queries[own:] = sequences.queries, behind[0]
        self.keys[:own], self.keys[own:] = sequences.keys, behind[1]


@dataclass
class PassCounter:
    """Counts passes of all sizes: they share one memory pool, so each pass overwrites the activations of the one before."""

    number: int = 0


class RecordedPass:
    """Recorded forward and backward pass of one size.

    `trained` are the parameters whose gradients the backward pass returns, in this order.
    """

    def __init__(
        self,
        module: Any,
        buffer_sizes: Sizes,
        device: torch.device,
        precision: Callable[[], contextlib.AbstractContextManager[Any]],
        trained: Sequence[nn.Parameter],
        counter: PassCounter | None = None,
    ) -> None:
        self.module, self.precision, self.trained = module, precision, list(trained)
        self.buffers = Buffers(buffer_sizes, device)
        self.credit = torch.zeros(buffer_sizes.reads, device=device)
        self.counter = counter or PassCounter()

    def compute(self) -> Tensor:
        """Compute the log-probs of the batch in the buffers."""
        with self.precision():
            return self.module(self.buffers.batch)[0]

    def record(self, pool: Any) -> None:
        """Run once without recording, so that kernels are compiled and chosen, then record; the buffers must hold a batch."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.autograd.grad(self.compute(), self.trained, self.credit, allow_unused=True)
        torch.cuda.current_stream().wait_stream(stream)
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.forward_graph, pool=pool):
            out = self.compute()
        with torch.cuda.graph(self.backward_graph, pool=pool):
            # The activations are kept, so that the backward pass can run more than once.
            self.gradients = torch.autograd.grad(out, self.trained, self.credit, allow_unused=True, retain_graph=True)
        self.out = out.detach()

    def __call__(self, batch: Batch) -> Tensor:
        """Compute the log-probs [M] of a batch's targets."""
        self.buffers.write(batch)
        self.counter.number += 1
        return Replay.apply(self, len(batch.targets), *self.trained)

    def backward(self, credit: Tensor) -> list[Tensor | None]:
        """Compute the gradients of the parameters, in memory that the next pass, forward or backward, overwrites."""
        self.credit.zero_()
        self.credit[: len(credit)] = credit
        self.backward_graph.replay()
        return [None if gradient is None else gradient.detach() for gradient in self.gradients]


class Replay(torch.autograd.Function):
    """A recorded pass as one differentiable operation."""

    @staticmethod
    def forward(ctx: Any, recorded: RecordedPass, count: int, *trained: Tensor) -> Tensor:
        """Replay the forward graph."""
        recorded.forward_graph.replay()
        ctx.recorded, ctx.number = recorded, recorded.counter.number
        return recorded.out[:count].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Replay the backward graph."""
        if ctx.number != ctx.recorded.counter.number:
            raise RuntimeError("A recorded pass was used for another batch before the backward pass of this one.")
        return None, None, *ctx.recorded.backward(grad)


class CudaGraphs:
    """Replaces a LogpsModule in passes with gradients; batches that no recorded pass fits are computed by the module itself.

    limit:   Maximum sizes of the training batches, where they are known.
    refused: Why recording stopped, or None.
    """

    def __init__(self, module: Any, device: torch.device, precision: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self.module, self.device, self.precision = module, device, precision
        self.limit: Sizes | None = None
        self.refused: str | None = None
        self.recorded: list[RecordedPass] = []
        self.parameters: list[nn.Parameter] = list(module.parameters())
        self.places: tuple[int, ...] = ()
        self.written: set[int] = set()
        self.counter = PassCounter()
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Batch, *, align: bool = False, pooling: str | None = None, **others: Any) -> Any:
        """Compute a batch; arguments and result as in `LogpsModule.forward`."""
        recorded = None
        shared = batch.shared is not None and batch.shared.kernel == "varlen"
        if shared and not align and pooling is None and torch.is_grad_enabled():
            recorded = self._recorded_for(batch)
        if recorded is None:
            return self.module(batch, align=align, pooling=pooling, **others)
        return recorded(batch), None, None

    def _recorded_for(self, batch: Batch) -> RecordedPass | None:
        assert batch.shared is not None
        places = tuple(p.data_ptr() for p in self.parameters)
        if places != self.places:  # the weights have moved in memory, and the recorded passes read the old addresses
            self.recorded, self.places, self.written = [], places, set()
        self._keep_gradients()
        needed = sizes(batch.shared.groups, len(batch.reads))
        for recorded in self.recorded:
            if fits(needed, recorded.buffers.sizes):
                return recorded
        return None if self.refused is not None or len(self.recorded) >= MOST else self._record(batch, needed)

    def _keep_gradients(self) -> None:
        """Copy gradients that lie in memory which the next pass overwrites."""
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.grad.data_ptr() in self.written:
                parameter.grad = parameter.grad.clone()

    def _record(self, batch: Batch, needed: Sizes) -> RecordedPass | None:
        trained = [p for p in self.parameters if p.requires_grad]
        buffer_sizes = capacity(needed, self.limit)
        if not fits(needed, buffer_sizes):
            return None
        new = RecordedPass(self.module, buffer_sizes, self.device, self.precision, trained, self.counter)
        torch.cuda.empty_cache()  # the graph's pool cannot use memory that torch has cached
        try:
            new.buffers.write(batch)
            new.record(self.pool)
        except RuntimeError as error:
            self.refused = " ".join(str(error).split())[:300]
            log.warning("Passes are not recorded as CUDA graphs and run slower: %s", self.refused)
            torch.cuda.empty_cache()
            return None
        torch.cuda.empty_cache()
        self.recorded.append(new)
        self.written |= {gradient.data_ptr() for gradient in new.gradients if gradient is not None}
        return new
