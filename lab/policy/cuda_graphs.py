"""Forward and backward passes of a whole batch as CUDA graphs: recorded once for a size, then replayed for every batch that fits.

A small model's pass is thousands of short kernels, and starting them one by one takes a processor several times as long as a
GPU takes to compute them. A graph starts them all at once. It needs the same shapes at the same places in memory every time, so a
batch is written into buffers that are a little larger: behind its tokens stand sequences of padding that nobody sees and that get
no credit. Layers, objectives and the loop know nothing of it. Where several processes train together nothing is recorded.
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
"""Buffers are this much larger than the batch they are made for, where it isn't known how large batches get."""
WASTE = 1.34
"""A recorded pass is not used for a batch when it would compute more than this many times its tokens."""
MOST = 6
"""Recorded passes that are kept; batches that fit none of them are computed without."""
STEP, MARGIN = 128, 16
"""Sizes are multiples of the first; there is at least the second of padding, a token for each of its sequences."""


@dataclass(frozen=True)
class Sizes:
    """What a row of groups takes: tokens, keys that are copies (see `varlen.Sequences`), states that are read, sequences, and the
    longest of these."""

    tokens: int
    copies: int
    reads: int
    sequences: int
    longest: int

    @property
    def keys(self) -> int:
        return self.tokens + self.copies


def sizes(groups: Sequence[Group], reads: int) -> Sizes:
    """The sizes of a row."""
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
    """The most that any of these batches takes, without building them."""
    most = [0, 0, 0, 0, 0]
    for completions in batches:
        together: dict[tuple[int, ...], list[int]] = {}
        for completion in completions:
            together.setdefault(tuple(completion.prompt), []).append(len(completion.answer) - 1)
        groups = [Group(len(prompt), tuple(answers)) for prompt, answers in together.items()]
        found = sizes(groups, sum(len(c.answer) for c in completions))
        most = [max(a, b) for a, b in zip(most, astuple(found))]
    return Sizes(*most)


def capacity(needed: Sizes, limit: Sizes | None) -> Sizes:
    """Buffers for a batch: some more than it needs, but not more than any batch will need (`limit`; taken where it is near)."""
    near = limit is not None and limit.tokens <= 0.9 * WASTE * needed.tokens

    def room(name: str, step: int, extra: int) -> int:
        own = getattr(needed, name)
        wanted = int(ROOM * own)
        if limit is not None and getattr(limit, name) >= own:
            most = getattr(limit, name)
            wanted = most if near else min(wanted, most)
        return -(-(wanted + extra) // step) * step

    tokens, copies, longest = room("tokens", STEP, MARGIN), room("copies", STEP, 0), room("longest", STEP, MARGIN)
    spare = (int((tokens + copies) * (1 - 1 / WASTE)) + 5 * STEP) // (longest - 2) + 1
    return Sizes(tokens, copies, room("reads", STEP, 0), room("sequences", 4, spare), longest)


def paddings(needed: Sizes, room: Sizes) -> int:
    """Sequences of padding behind a batch, so that none is longer than the longest may be."""
    return -(-(room.keys - needed.keys) // (room.longest - 2))


def fits(needed: Sizes, room: Sizes) -> bool:
    """Whether a batch can be computed in these buffers without much waste."""
    return (
        needed.tokens + MARGIN <= room.tokens <= max(WASTE * needed.tokens, needed.tokens + 3 * STEP)
        and needed.copies <= room.copies  # so that padding has as many keys as tokens
        and paddings(needed, room) <= min(room.sequences - needed.sequences, MARGIN)
        and needed.reads <= room.reads
        and needed.longest <= room.longest
    )


class Buffers:
    """A batch of fixed size on a device, into which smaller ones are written."""

    def __init__(self, room: Sizes, device: torch.device) -> None:
        self.room = room

        def numbers(count: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(count, dtype=dtype, device=device)

        self.ids, self.positions = numbers(room.tokens)[None], numbers(room.tokens)[None]
        self.reads, self.targets, self.source = numbers(room.reads), numbers(room.reads), numbers(room.keys)
        self.queries, self.keys = numbers(room.sequences + 1, torch.int32), numbers(room.sequences + 1, torch.int32)
        row = SharedRow((), device, "varlen")
        row.__dict__["sequences"] = varlen.Sequences(self.queries, self.keys, self.source, room.longest, room.longest)
        self.batch = Batch(self.ids, self.positions, None, row, self.reads, self.targets, self.reads, self.reads, (), ())

    def write(self, batch: Batch) -> None:
        """Put a batch in, padding behind it."""
        assert batch.shared is not None
        assert batch.positions is not None
        found, tokens, reads = batch.shared.sequences, batch.ids.shape[1], len(batch.reads)
        own, keys = len(found.queries), len(found.source)
        self.ids[0, :tokens] = batch.ids[0]
        self.ids[0, tokens:] = 0
        self.positions[0, :tokens] = batch.positions[0]
        self.positions[0, tokens:] = 0
        self.reads[:reads] = batch.reads
        self.reads[reads:] = tokens
        self.targets[:reads] = batch.targets
        self.targets[reads:] = 0
        self.source[:keys] = found.source
        self.source[keys:] = tokens
        # No sequence of padding has fewer keys than tokens or none of either; the sequences behind them are empty.
        left, more = self.room.tokens - tokens, self.room.copies - (keys - tokens)
        parts = -(-(left + more) // (self.room.longest - 2))
        empty = len(self.queries) - own - parts
        ends = [tokens + left * (part + 1) // parts for part in range(parts)] + [self.room.tokens] * empty
        further = [keys - tokens + more * (part + 1) // parts for part in range(parts)] + [self.room.copies] * empty
        behind = copy_to_device([ends, [a + b for a, b in zip(ends, further)]], self.queries.device)
        self.queries[:own], self.queries[own:] = found.queries, behind[0]
        self.keys[:own], self.keys[own:] = found.keys, behind[1]


@dataclass
class PassCounter:
    """Counts the passes of all sizes: they share their memory, so what one keeps is gone when the next begins."""

    number: int = 0


class Recorded:
    """The pass of one size; `trained` are the parameters whose gradients its backward pass gives, in their order."""

    def __init__(
        self,
        module: Any,
        room: Sizes,
        device: torch.device,
        precision: Callable[[], contextlib.AbstractContextManager[Any]],
        trained: Sequence[nn.Parameter],
        turn: PassCounter | None = None,
    ) -> None:
        self.module, self.precision, self.trained = module, precision, list(trained)
        self.buffers = Buffers(room, device)
        self.credit = torch.zeros(room.reads, device=device)
        self.turn = turn or PassCounter()

    def compute(self) -> Tensor:
        """Log-probs of what is in the buffers."""
        with self.precision():
            return self.module(self.buffers.batch)[0]

    def record(self, pool: Any) -> None:
        """Run once as usual, so that everything is compiled and chosen, then record. The buffers must hold a batch."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.autograd.grad(self.compute(), self.trained, self.credit, allow_unused=True)
        torch.cuda.current_stream().wait_stream(stream)
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.forward_graph, pool=pool):
            out = self.compute()
        with torch.cuda.graph(self.backward_graph, pool=pool):
            # What the forward pass keeps stays where it is, so that credit can be sent back more than once.
            self.gradients = torch.autograd.grad(out, self.trained, self.credit, allow_unused=True, retain_graph=True)
        self.out = out.detach()

    def __call__(self, batch: Batch) -> Tensor:
        """Log-probs [M] of a batch's targets."""
        self.buffers.write(batch)
        self.turn.number += 1
        return Replay.apply(self, len(batch.targets), *self.trained)

    def send_back(self, credit: Tensor) -> list[Tensor | None]:
        """Gradients of the parameters, in memory that the next pass overwrites, forward or backward."""
        self.credit.zero_()
        self.credit[: len(credit)] = credit
        self.backward_graph.replay()
        return [None if gradient is None else gradient.detach() for gradient in self.gradients]


class Replay(torch.autograd.Function):
    """A recorded pass as one operation with gradients."""

    @staticmethod
    def forward(ctx: Any, recorded: Recorded, count: int, *trained: Tensor) -> Tensor:
        recorded.forward_graph.replay()
        ctx.recorded, ctx.number = recorded, recorded.turn.number
        return recorded.out[:count].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.number != ctx.recorded.turn.number:
            raise RuntimeError("A recorded pass was used for another batch before the credit of this one was sent back.")
        return None, None, *ctx.recorded.send_back(grad)


class Graphs:
    """Stands in the place of a LogpsModule where gradients are wanted, and gives what it gives. Batches it cannot take go to the
    module itself.

    limit: the most that batches of training will take, where it is known.   refused: why nothing is recorded any more, or None.
    """

    def __init__(self, module: Any, device: torch.device, precision: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self.module, self.device, self.precision = module, device, precision
        self.limit: Sizes | None = None
        self.refused: str | None = None
        self.recorded: list[Recorded] = []
        self.parameters: list[nn.Parameter] = list(module.parameters())
        self.places: tuple[int, ...] = ()
        self.written: set[int] = set()
        self.turn = PassCounter()
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Batch, *, align: bool = False, pooling: str | None = None, **others: Any) -> Any:
        found = None
        shared = batch.shared is not None and batch.shared.kernel == "varlen"
        if shared and not align and pooling is None and torch.is_grad_enabled():
            found = self._for(batch)
        if found is None:
            return self.module(batch, align=align, pooling=pooling, **others)
        return found(batch), None, None

    def _for(self, batch: Batch) -> Recorded | None:
        assert batch.shared is not None
        places = tuple(p.data_ptr() for p in self.parameters)
        if places != self.places:  # weights were put elsewhere: what was recorded reads the old ones
            self.recorded, self.places, self.written = [], places, set()
        self._keep_gradients()
        needed = sizes(batch.shared.groups, len(batch.reads))
        for one in self.recorded:
            if fits(needed, one.buffers.room):
                return one
        return None if self.refused is not None or len(self.recorded) >= MOST else self._record(batch, needed)

    def _keep_gradients(self) -> None:
        """Gradients of a part of the batch that came before are not left where the next pass writes."""
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.grad.data_ptr() in self.written:
                parameter.grad = parameter.grad.clone()

    def _record(self, batch: Batch, needed: Sizes) -> Recorded | None:
        trained = [p for p in self.parameters if p.requires_grad]
        room = capacity(needed, self.limit)
        if not fits(needed, room):
            return None
        new = Recorded(self.module, room, self.device, self.precision, trained, self.turn)
        torch.cuda.empty_cache()  # the pool takes nothing of what was used and is free
        try:
            new.buffers.write(batch)
            new.record(self.pool)
        except RuntimeError as error:
            self.refused = " ".join(str(error).split())[:300]
            log.warning("Passes are not recorded as CUDA graphs, which is slower: %s", self.refused)
            new = None  # type: ignore[assignment]
        torch.cuda.empty_cache()
        if new is not None:
            self.recorded.append(new)
            self.written |= {gradient.data_ptr() for gradient in new.gradients if gradient is not None}
        return new
