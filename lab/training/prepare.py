"""Everything a run needs before its first step: the model, the pairs as tokens, the reference's log-probs, the checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lab.monitor import StoreWriter
from lab.objectives import DegradedAnswers
from lab.pairs import Pair
from lab.policy import Completion, Encoder, ModelError, Policy, ReferenceCache, ensure_right_head, load_policy, sample_answers

from .batches import EncodedPair, batch_indices, encode_pair, generator, weaken
from .config import TrainConfig
from .held_out import split

HEAD_WEIGHTS, SHARE = 3, 4
"""Purposes of random numbers; see `generator`."""


@dataclass
class Prepared:
    """What the loop works with. `encoded` holds the pairs that the run will see, by position in the list of the `count` pairs to
    train on; `held_out` those that looks compute and that are never trained on."""

    config: TrainConfig
    policy: Policy
    encoder: Encoder
    count: int
    encoded: dict[int, EncodedPair]
    pairs: dict[str, Pair]
    cache: ReferenceCache
    wants: DegradedAnswers | None
    degree_head: nn.Module | None
    held_out: list[EncodedPair] = field(default_factory=list)

    def batch(self, step: int) -> list[EncodedPair]:
        """The pairs of optimizer step `step` (1-based), with the weakened answers of the share that gets them."""
        config = self.config
        pairs = [self.encoded[i] for i in batch_indices(step, self.count, config.batch_size, config.seed)]
        if self.wants is None:
            return pairs
        used = (torch.rand(len(pairs), generator=generator(config.seed, step, SHARE)) < self.wants.share).tolist()
        if self.wants.source == "sampled":
            return self._with_sampled_answers(step, pairs, used)
        return [pair if use else replace(pair, weakened=()) for pair, use in zip(pairs, used)]

    def reference(self, completion: Completion) -> np.ndarray | None:
        """Token log-probs [T] of the reference. None only for a sampled answer under full fine-tuning: none is left then."""
        if self._sampled_without_reference and not self.cache.holds(completion):
            return None
        return self.cache.lookup(completion)

    @property
    def _sampled_without_reference(self) -> bool:
        return self.wants is not None and self.wants.source == "sampled" and not self.policy.adapter

    def _with_sampled_answers(self, step: int, pairs: list[EncodedPair], used: list[bool]) -> list[EncodedPair]:
        """SPO's fourth source: weaken a fresh answer of the policy."""
        assert self.wants is not None
        prompts = [self.pairs[pair.id].prompt for pair, use in zip(pairs, used) if use]
        seed = (self.config.seed * 1_000_003 + step) % 2**31
        texts = iter(sample_answers(self.policy, prompts, seed=seed, max_length=self.config.max_length) if prompts else [])
        found = []
        for pair, use in zip(pairs, used):
            weak = weaken(next(texts)[0], self.pairs[pair.id], self.encoder, pair.chosen.prompt, self.wants) if use else []
            found.append(replace(pair, weakened=tuple(weak)))
        if self.policy.adapter:
            self.cache.prepare(self.policy, [w.completion for pair in found for w in pair.weakened])
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
) -> Prepared:
    """Load, encode, check, compute the reference. `stage(words, share, remaining)` reports progress, `warn(words, **detail)`
    what people should know, `listen()` is called between batches and may raise to stop. Raises ValueError in one sentence."""
    for words in config.objective.warnings():
        warn(words)
    stage("loading the model")
    policy = load_policy(model, lora=config.lora, device=config.device, seed=config.seed)
    encoder = Encoder(policy.tokenizer, min(config.max_length, policy.positions))
    if not stored:
        raise ValueError("The pair set is empty; add pairs, or restore dropped ones, before training on it.")
    training, held_out = _hold_out(config, stored, store)
    encoded = _encode(config, training, encoder, policy.vocabulary, stage, warn, listen)
    wants = config.objective.degraded_answers()
    looked_at = [_known(encode_pair(pair, encoder, wants), policy.vocabulary) for pair in held_out]
    _check_head(policy, encoded, store, warn)
    reference = ReferenceCache(cache / "reference", policy)
    _compute_reference(policy, reference, [*encoded.values(), *looked_at], store, stage, listen)
    head = _degree_head(policy, wants, config.seed) if wants else None
    by_id = {pair.id: pair for pair in stored}
    return Prepared(config, policy, encoder, len(training), encoded, by_id, reference, wants, head, looked_at)


def _hold_out(config: TrainConfig, stored: list[Pair], store: StoreWriter) -> tuple[list[Pair], list[Pair]]:
    """(pairs to train on, held-out pairs that looks compute); the run records all that are held out."""
    if not (config.evaluate and config.held_out):
        return stored, []
    training, held_out = split(stored, config.held_out, config.seed)
    looked_at = held_out[: config.eval_pairs]
    store.event(0, "held_out", pairs=[pair.id for pair in held_out], looked_at=len(looked_at))
    return training, looked_at


def _encode(
    config: TrainConfig,
    stored: list[Pair],
    encoder: Encoder,
    vocabulary: int,
    stage: Callable[..., None],
    warn: Callable[..., None],
    listen: Callable[[], None],
) -> dict[int, EncodedPair]:
    """The pairs that the run will see, by position. Raises ModelError where the model does not know a token."""
    count, steps = len(stored), config.steps
    if steps * config.batch_size >= count:
        wanted = list(range(count))
    else:
        wanted = sorted({i for step in range(1, steps + 1) for i in batch_indices(step, count, config.batch_size, config.seed)})
    wants = config.objective.degraded_answers()
    encoded: dict[int, EncodedPair] = {}
    for done, index in enumerate(wanted):
        if done % 256 == 0:
            stage("reading the pairs", done / len(wanted))
            listen()
        encoded[index] = _known(encode_pair(stored[index], encoder, wants), vocabulary)
    cut = [pair for pair in encoded.values() if pair.cut]
    if cut:
        warn(
            f"{len(cut)} of {len(encoded)} pairs have an answer longer than {encoder.max_length} tokens (max_length, or what "
            f"the model can place); their ends ({sum(p.cut for p in cut)} tokens) are not trained on. "
            "Raise max_length if the model allows.",
            pairs=[p.id for p in cut[:100]],
        )
    if wants and wants.source != "sampled" and not any(pair.weakened for pair in encoded.values()):
        warn("No answer has enough key phrases to be weakened, so SPO's preference-degree loss stays 0; try fewer degrees.")
    return encoded


def _known(pair: EncodedPair, vocabulary: int) -> EncodedPair:
    if (largest := max(max(*c.prompt, *c.answer) for c in pair.completions())) >= vocabulary:
        raise ModelError(
            f"The tokenizer gives token {largest} in pair {pair.id}, but the model knows {vocabulary} tokens; "
            "use the tokenizer it was made with."
        )
    return pair


def _check_head(policy: Policy, encoded: dict[int, EncodedPair], store: StoreWriter, warn: Callable[..., None]) -> None:
    first = [encoded[i] for i in sorted(encoded)[:2]]
    difference = ensure_right_head(policy, [c for pair in first for c in (pair.chosen, pair.rejected)])
    store.event(
        0, "check", what="completion-only logits against the model's own", difference=difference, fallback=policy.head.whole
    )
    if policy.head.whole:
        warn(
            f"This model computes its logits in a way of its own (log-probs differ by {difference:.3g} nats); "
            "the whole logits are computed instead, which is right but slower and takes more memory."
        )


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


def _degree_head(policy: Policy, wants: DegradedAnswers, seed: int) -> nn.Module:
    head = nn.Linear(policy.hidden_size, wants.degrees)
    with torch.no_grad():
        head.weight.normal_(0, policy.hidden_size**-0.5, generator=generator(seed, 0, HEAD_WEIGHTS))
        head.bias.zero_()
    return head.to(policy.device)
