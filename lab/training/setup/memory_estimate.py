"""How much memory a run takes at its peak, and the largest micro-batch that fits.

The peak is the higher one of two moments. In a step: the optimizer's values, what autograd keeps of the largest micro-batch that
the run will see, twice one layer's share of that while the layer is computed backward, the working memory of the logits, and the
gradients. A step that is one micro-batch frees its activations while its gradients grow, so there the larger of the two counts;
with several, the gradients of the first lie beside the activations of the next. In an evaluation: the optimizer's values, the
reference (a second copy of the weights under full fine-tuning), and the keys and values of the prompts that are answered at once.

What autograd keeps is measured with forward passes of single pairs of five lengths and of two together; a micro-batch keeps what
its pairs keep. Which pairs stand in a micro-batch together follows from the run's order, so the largest one is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.policy import Policy
from lab.policy.kernels import fused
from lab.policy.logps import CHUNK_ELEMENTS
from lab.policy.memory import out_of_memory, resident_bytes, retry_smaller, shorter
from lab.run.config import TrainConfig
from lab.run.preflight_report import Memory
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.distributed import Workers
from lab.training.evaluation.probes import probe_copies, probed_parameters
from lab.training.step import pair_logps

LENGTHS = 5
"""Single pairs that are measured: of so many lengths, from the shortest to the longest."""
STEPS = 1000
"""The largest micro-batch is looked for in so many of the steps to come."""
COPIES, LINEAR_COPIES = 3, 2
"""Arrays of one chunk of logits that live at the same time: where autograd goes through the projection, and where its gradient
is written out."""
HEAP = 1.4
"""What a CPU's activations take of the heap: between the tensors that are kept lie holes of those that were not, which the C
library's allocator cannot give back (in eight shapes 20 to 60 % of what is kept, `tests.bench.bench_memory_estimate`)."""
ANSWERED_AT_ONCE = 50
"""Prompts that an evaluation answers at once, see `evaluation.BATCH`."""


@dataclass(frozen=True)
class PassCosts:
    """Bytes that autograd keeps of a forward pass: `fixed` for the pass, and for a pair of so many tokens what was measured at
    `tokens` (rising), straight lines in between."""

    fixed: int
    tokens: tuple[int, ...]
    kept: tuple[int, ...]

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """Bytes for single pairs, without what is fixed."""
        first, last = self.tokens[0], self.tokens[-1]
        inside = np.interp(tokens, self.tokens, self.kept)
        below = np.minimum(tokens / first, 1.0)
        return inside * below * np.maximum(tokens / last, 1.0)


class MemoryEstimate:
    """The peak of one run on one device, by micro-batch size.

    pairs: those that are still to be seen.   batches: the pairs of the steps to come.   free: bytes that are free now that the
    model is loaded.   Memory that runs out while it is measured is no error: shorter pairs are measured in place of longer ones.
    """

    def __init__(
        self,
        policy: Policy,
        config: TrainConfig,
        pairs: Sequence[EncodedPair],
        batches: Sequence[Sequence[EncodedPair]],
        free: int,
        workers: Workers,
        prompts: Sequence[int] = (),
    ) -> None:
        self.policy, self.config, self.workers, self.free = policy, config, workers, free
        cpu = policy.device.type == "cpu"
        self.weights = sum(storages([*policy.model.parameters(), *policy.model.buffers()]).values())
        self.process = max(resident_bytes() - self.weights, 0) if cpu else 0
        named = policy.parameters()
        self.trained = sum(bytes_of(p) for p in named.values()) // (workers.world_size if workers.sharded else 1)
        self.probed = sum(bytes_of(named[name]) for name in probed_parameters(config, policy))
        head = policy.model.get_output_embeddings()
        self.head = sum(bytes_of(p) for p in head.parameters() if p.requires_grad) if head is not None else 0
        self.layers = max(int(getattr(policy.model.config.get_text_config(), "num_hidden_layers", 1)), 1)
        self.costs = measure(policy, config, pairs)
        self.recomputed = self._recomputed(pairs) if config.gradient_checkpointing else 0.0
        own = [batch[workers.share(len(batch))] for batch in batches if len(batch) >= workers.world_size]
        self._kept = [self.costs.of(np.array([tokens_of(pair) for pair in batch])) for batch in own]
        self._tokens = [np.array([tokens_of(pair) for pair in batch]) for batch in own]
        self._answers = [np.array([sum(len(c.answer) for c in pair.completions()) for pair in batch]) for batch in own]
        self.evaluation = self._evaluation(prompts)

    def memory(self, micro: int, *, probes: bool = True) -> Memory:
        """The peak with micro-batches of so many pairs. probes: with the gradients of probes, as the run is set."""
        config = self.config
        kept = max((self._largest(values, micro) for values in self._kept), default=0.0)
        answers = max((self._largest(values, micro) for values in self._answers), default=0.0)
        # Under gradient checkpointing one layer's activations are computed again while its gradient is.
        again = int(self.recomputed * max((self._largest(values, micro) for values in self._tokens), default=0.0))
        activations = int((self.costs.fixed + kept + again) * (HEAP if self.policy.device.type == "cpu" else 1.0))
        logits = self._logits(int(answers))
        parts = micro * self.workers.world_size < config.batch_size
        copies = probe_copies(config.model_copy(update={"micro_batch_size": micro if parts else None}))[0] if probes else 0
        probed = self.probed * copies
        # Of one layer: the gradient of what it kept, and its working memory.
        backward = 2 * (again or int(self.costs.fixed + kept) // self.layers)
        forward_ends = activations + max(logits, backward) + self.head + probed
        step = forward_ends + self.trained if parts else max(forward_ends, self.trained + probed + self.head + backward)
        return Memory(
            device=str(self.policy.device),
            process=self.process,
            weights=self.weights,
            gradients=self.trained + probed,
            optimizer=2 * self.trained,
            activations=activations,
            logits=logits,
            step=step,
            evaluation=self.evaluation,
            free=self.free // self.workers.local_world_size if self.policy.device.type == "cpu" else self.free,
        )

    def largest(self, most: int) -> int:
        """The largest micro-batch of at most so many pairs that fits; 0 where not even one pair does."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.memory(middle).enough else (low, middle - 1)
        return low

    @staticmethod
    def _largest(values: np.ndarray, micro: int) -> float:
        """The largest sum over `micro` values in a row, as a batch is cut into parts."""
        return float(np.add.reduceat(values, np.arange(0, len(values), micro)).max())

    def _logits(self, tokens: int) -> int:
        """Working memory for the logits of so many answer tokens."""
        head, numbers = self.policy.module.head, tokens * self.policy.vocabulary
        if head.whole:
            return COPIES * 4 * min(numbers, CHUNK_ELEMENTS)
        if head.matrix is not None and fused.available(self.policy.device):
            return 4 * min(numbers, fused.CHUNK_ELEMENTS)  # bfloat16, and as much for what is multiplied with them
        linear = head.linear is not None and head.linear.plain
        return (LINEAR_COPIES if linear else COPIES) * 4 * min(numbers, CHUNK_ELEMENTS)

    def _recomputed(self, pairs: Sequence[EncodedPair]) -> float:
        """Bytes that one layer keeps for a token while it is computed again under gradient checkpointing."""
        longest = sorted(pairs, key=tokens_of)[-1:]
        self.policy.model.eval()
        try:
            return kept(self.policy, self.config, longest) / tokens_of(longest[0]) / self.layers
        finally:
            self.policy.model.train()

    def _evaluation(self, prompts: Sequence[int]) -> int:
        """What an evaluation takes beside weights and optimizer. prompts: their lengths in tokens, as they are answered."""
        config = self.config
        if not config.evaluate:
            return 0
        reference = 0 if self.policy.adapter else self.weights
        if not prompts or config.eval_prompts == 0:
            return reference
        longest = sorted(prompts)[-ANSWERED_AT_ONCE:]
        width = longest[-1] + config.eval_tokens
        return reference + len(longest) * width * cached_bytes(self.policy)


def measure(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> PassCosts:
    """What autograd keeps of single pairs of a few lengths, and for a pass as such."""
    ordered = sorted(pairs, key=tokens_of)
    places = sorted({round(place) for place in np.linspace(0, len(ordered) - 1, LENGTHS)})
    chosen = {tokens_of(ordered[place]): ordered[place] for place in places}
    singles = {tokens: kept(policy, config, [pair]) for tokens, pair in sorted(chosen.items())}
    one, other = ordered[-1], ordered[len(ordered) // 2]
    fixed = singles[tokens_of(one)] + kept(policy, config, [other]) - kept(policy, config, [one, other]) if len(pairs) > 1 else 0
    fixed = min(max(fixed, 0), *singles.values())
    return PassCosts(fixed, tuple(singles), tuple(value - fixed for value in singles.values()))


def kept(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> int:
    """Bytes that autograd keeps after a forward pass, besides weights and logits. Of pairs that do not fit, what shorter ones keep
    is taken times the tokens that these lack."""
    tokens = sum(map(tokens_of, pairs))

    def measured(some: Sequence[EncodedPair]) -> int:
        return _kept_by(policy, config, some) * tokens // sum(map(tokens_of, some))

    return retry_smaller(measured, pairs, shorter_pairs)


def _kept_by(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> int:
    own = storages([*policy.model.parameters(), *policy.model.buffers()])
    logits = set() if policy.module.head.whole else {policy.vocabulary}
    tensors: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[-1] not in logits or tensor.ndim > 2:
            tensors.append(tensor.detach())
            return tensors[-1]
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        pair_logps(policy, config.objective, pairs, None)
    return sum(size for pointer, size in storages(tensors).items() if pointer not in own)


def shorter_pairs(pairs: Sequence[EncodedPair]) -> Sequence[EncodedPair] | None:
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
            degraded=tuple(replace(weak, completion=next(left)) for weak in pair.degraded),
        )
        for pair in pairs
    ]


def cached_bytes(policy: Policy, length: int = 8) -> int:
    """Bytes of keys and values that generation keeps for a token of an answer; 0 where the model shows none."""
    ids = torch.full((1, length), policy.pad_id, device=policy.device)
    try:
        with policy.evaluating(), policy.gathered(), policy.precision():
            output = policy.model(input_ids=ids, use_cache=True, logits_to_keep=1)
    except (RuntimeError, MemoryError, TypeError, ValueError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        return 0  # a model without such a cache
    cache = [value for name, value in output.items() if name != "logits"]
    return sum(storages(list(_tensors(cache))).values()) // length


def _tensors(value: Any, depth: int = 4) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors(inner, depth - 1)
    elif depth and hasattr(value, "__dict__"):
        for inner in vars(value).values():
            yield from _tensors(inner, depth - 1)


def tokens_of(pair: EncodedPair) -> int:
    """Tokens of a pair, the prompt once."""
    return len(pair.chosen.prompt) + sum(len(completion.answer) for completion in pair.completions())


def bytes_of(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers."""
    return tensor.numel() * tensor.element_size()


def storages(tensors: Sequence[Tensor]) -> dict[int, int]:
    """Size of every piece of memory behind the tensors, by address; several tensors may look at one."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
