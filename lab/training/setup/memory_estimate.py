"""Estimate of a run's peak memory, and the largest micro-batch that fits.

The peak is that of a step or of an evaluation, whichever is higher. A step holds the optimizer state, the activations that autograd
saves for the largest micro-batch, twice one layer's share of them while that layer is computed backward, the working memory of the
logits, and the gradients. In a step of one micro-batch activations are freed while gradients grow, so the larger of the two counts;
with several, the gradients of the first are held beside the activations of the next. An evaluation holds the optimizer state, the
reference (a second copy of the weights under full fine-tuning), and the KV cache of the prompts that are answered at once.

Saved activations are measured with forward passes of single pairs of five lengths and of two pairs together; those of a micro-batch
are the sum over its pairs. The batch schedule tells which pairs form a micro-batch, so the largest one is known.
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
"""Number of single pairs measured, from the shortest to the longest."""
STEPS = 1000
"""Number of coming steps among which the largest micro-batch is searched."""
COPIES, LINEAR_COPIES = 3, 2
"""Arrays of one chunk of logits held at once: where autograd differentiates the projection, and where its gradient is explicit."""
HEAP = 1.4
"""Heap bytes per byte of saved activations on a CPU: the C allocator cannot return the gaps that freed tensors leave between them
(20 to 60 % in eight shapes, `tests.bench.bench_memory_estimate`)."""
ANSWERED_AT_ONCE = 100
"""Prompts that an evaluation answers at once (`evaluator.SAMPLING_BATCH`)."""


@dataclass(frozen=True)
class ActivationCosts:
    """Bytes of activations that autograd saves in a forward pass.

    Attributes:
        fixed: Bytes per pass.
        tokens: Lengths of the measured pairs in tokens, ascending.
        saved: Bytes per pair of these lengths, without `fixed`; interpolated linearly in between.
    """

    fixed: int
    tokens: tuple[int, ...]
    saved: tuple[int, ...]

    def per_pair(self, tokens: np.ndarray) -> np.ndarray:
        """Return the bytes of single pairs with these numbers of tokens, without `fixed`."""
        first, last = self.tokens[0], self.tokens[-1]
        inside = np.interp(tokens, self.tokens, self.saved)
        below = np.minimum(tokens / first, 1.0)
        return inside * below * np.maximum(tokens / last, 1.0)


class MemoryEstimate:
    """Peak memory of a run on one device as a function of the micro-batch size.

    Where memory runs out during a measurement, shorter pairs are measured instead.

    Args:
        policy: The loaded model.
        config: Settings of the run.
        pairs: All pairs of the coming steps.
        batches: The pairs of each coming step.
        free: Bytes available with the model loaded.
        workers: The processes that train together.
        prompts: Lengths, in tokens, of the prompts that an evaluation answers.
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
        self.trained = sum(tensor_bytes(p) for p in named.values()) // (workers.world_size if workers.sharded else 1)
        self.probed = sum(tensor_bytes(named[name]) for name in probed_parameters(config, policy))
        head = policy.model.get_output_embeddings()
        self.head = sum(tensor_bytes(p) for p in head.parameters() if p.requires_grad) if head is not None else 0
        self.layers = max(int(getattr(policy.model.config.get_text_config(), "num_hidden_layers", 1)), 1)
        self.costs = measure(policy, config, pairs)
        self.recomputed = self._recomputed(pairs) if config.gradient_checkpointing else 0.0
        own = [batch[workers.share(len(batch))] for batch in batches if len(batch) >= workers.world_size]
        self._saved = [self.costs.per_pair(np.array([token_count(pair) for pair in batch])) for batch in own]
        self._tokens = [np.array([token_count(pair) for pair in batch]) for batch in own]
        self._answers = [np.array([sum(len(c.answer) for c in pair.completions()) for pair in batch]) for batch in own]
        self.evaluation = self._evaluation(prompts)

    def memory(self, micro: int, *, probes: bool = True) -> Memory:
        """Return the estimate for micro-batches of `micro` pairs. probes: whether to count the gradients held by probes."""
        config = self.config
        saved = max((self._largest(values, micro) for values in self._saved), default=0.0)
        answers = max((self._largest(values, micro) for values in self._answers), default=0.0)
        # Under gradient checkpointing one layer's activations are computed again while its gradient is.
        again = int(self.recomputed * max((self._largest(values, micro) for values in self._tokens), default=0.0))
        activations = int((self.costs.fixed + saved + again) * (HEAP if self.policy.device.type == "cpu" else 1.0))
        logits = self._logits(int(answers))
        parts = micro * self.workers.world_size < config.batch_size
        copies = probe_copies(config.model_copy(update={"micro_batch_size": micro if parts else None}))[0] if probes else 0
        probed = self.probed * copies
        # One layer: the gradient of its activations, and its working memory.
        backward = 2 * (again or int(self.costs.fixed + saved) // self.layers)
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
        """Return the largest micro-batch size up to `most` that fits; 0 if a single pair does not fit."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.memory(middle).enough else (low, middle - 1)
        return low

    @staticmethod
    def _largest(values: np.ndarray, micro: int) -> float:
        """Return the largest sum over the micro-batches of a batch, `micro` consecutive values each."""
        return float(np.add.reduceat(values, np.arange(0, len(values), micro)).max())

    def _logits(self, tokens: int) -> int:
        """Return the bytes of working memory for the logits of `tokens` answer tokens."""
        head, numbers = self.policy.module.head, tokens * self.policy.vocabulary
        if head.whole:
            return COPIES * 4 * min(numbers, CHUNK_ELEMENTS)
        if head.matrix is not None and fused.available(self.policy.device):
            return 4 * min(numbers, fused.CHUNK_ELEMENTS)  # logits and their gradient in bfloat16
        linear = head.linear is not None and head.linear.plain
        return (LINEAR_COPIES if linear else COPIES) * 4 * min(numbers, CHUNK_ELEMENTS)

    def _recomputed(self, pairs: Sequence[EncodedPair]) -> float:
        """Return the bytes of one layer's activations for a token, as gradient checkpointing computes them again."""
        longest = sorted(pairs, key=token_count)[-1:]
        self.policy.model.eval()
        try:
            return saved_bytes(self.policy, self.config, longest) / token_count(longest[0]) / self.layers
        finally:
            self.policy.model.train()

    def _evaluation(self, prompts: Sequence[int]) -> int:
        """Return the bytes of an evaluation besides weights and optimizer. prompts: their lengths in tokens."""
        config = self.config
        if not config.evaluate:
            return 0
        reference = 0 if self.policy.adapter else self.weights
        if not prompts or config.eval_prompts == 0:
            return reference
        longest = sorted(prompts)[-ANSWERED_AT_ONCE:]
        width = longest[-1] + config.eval_tokens
        return reference + len(longest) * width * kv_cache_bytes(self.policy)


def measure(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> ActivationCosts:
    """Measure the activations that autograd saves for single pairs of a few lengths, and per forward pass."""
    ordered = sorted(pairs, key=token_count)
    places = sorted({round(place) for place in np.linspace(0, len(ordered) - 1, LENGTHS)})
    chosen = {token_count(ordered[place]): ordered[place] for place in places}
    singles = {tokens: saved_bytes(policy, config, [pair]) for tokens, pair in sorted(chosen.items())}
    longest, median = ordered[-1], ordered[len(ordered) // 2]
    fixed = 0
    if len(pairs) > 1:
        both = saved_bytes(policy, config, [longest, median])
        fixed = singles[token_count(longest)] + saved_bytes(policy, config, [median]) - both
    fixed = min(max(fixed, 0), *singles.values())
    return ActivationCosts(fixed, tuple(singles), tuple(value - fixed for value in singles.values()))


def saved_bytes(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> int:
    """Return the bytes that autograd saves in a forward pass, without weights and logits.

    For pairs that do not fit into memory, shorter ones are measured and the result is scaled by the number of tokens.
    """
    tokens = sum(map(token_count, pairs))

    def measured(some: Sequence[EncodedPair]) -> int:
        return _measure_saved(policy, config, some) * tokens // sum(map(token_count, some))

    return retry_smaller(measured, pairs, shorten)


def _measure_saved(policy: Policy, config: TrainConfig, pairs: Sequence[EncodedPair]) -> int:
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


def shorten(pairs: Sequence[EncodedPair]) -> Sequence[EncodedPair] | None:
    """Cut pairs to at most half of the longest one's length; None where that is not possible."""
    cut = shorter([c for pair in pairs for c in pair.completions()])
    if cut is None:
        return None
    left = iter(cut)
    return [
        replace(
            pair,
            chosen=next(left),
            rejected=next(left),
            degraded=tuple(replace(answer, completion=next(left)) for answer in pair.degraded),
        )
        for pair in pairs
    ]


def kv_cache_bytes(policy: Policy, length: int = 8) -> int:
    """Measure the bytes of the KV cache per token in generation; 0 for a model without such a cache."""
    ids = torch.full((1, length), policy.pad_id, device=policy.device)
    try:
        with policy.evaluating(), policy.gathered(), policy.precision():
            output = policy.model(input_ids=ids, use_cache=True, logits_to_keep=1)
    except (RuntimeError, MemoryError, TypeError, ValueError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        return 0
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


def token_count(pair: EncodedPair) -> int:
    """Return the number of tokens of a pair, with the prompt counted once."""
    return len(pair.chosen.prompt) + sum(len(completion.answer) for completion in pair.completions())


def tensor_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


def storages(tensors: Sequence[Tensor]) -> dict[int, int]:
    """Return the bytes of each storage of the tensors by its address; tensors that share a storage count once."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
