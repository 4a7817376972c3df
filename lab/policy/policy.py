"""A model in training with its tokenizer: log-probs, its own reference, saving."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lab.policy.sources.model_error import ModelError
from lab.policy.text.chat_template import now
from lab.policy.text.encoding import Encoder

from . import layout
from .cuda_graphs import Graphs
from .kernels import attention, fused, patches
from .layout import Batch, PromptAnswer
from .logps import CompletionLogps, Head, LogpsModule, completion_logps, split_head, whole_head

LEAST_POSITIONS = 16
"""The least that `Encoder` can divide between a prompt and an answer."""


@dataclass
class Policy:
    """A model in training with its tokenizer.

    fingerprint: hash of the reference weights (the model as loaded, adapter apart) - the key of the reference cache.
    autocast:    the type of matrix products, where it is not that of the weights.
    shared:      the attention kernel with which prompts are computed once, or None for a row per completion.
    single:      rows are computed one at a time, not in batches (only without shared prompts).
    module:      what is called for log-probs; `wrapped` stands in its place where several processes train, `graphs` on a GPU
                 where passes are recorded.
    moment:      the date and time that the chat template is told, one for a whole run.
    sampling_way: which of `sampling.WAYS` the model was found to need for answers that are its own.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    fingerprint: str = ""
    adapter: bool = False
    autocast: torch.dtype | None = None
    shared: str | None = None
    single: bool = False
    module: LogpsModule = field(init=False, repr=False)
    wrapped: Any = field(default=None, repr=False)
    graphs: Graphs | None = field(default=None, repr=False)
    moment: datetime = field(default_factory=now)
    sampling_way: int = field(default=0, repr=False)
    _ahead: tuple[tuple[PromptAnswer, ...], Batch] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.module = LogpsModule(self.model, split_head(self.model))

    @property
    def pad_id(self) -> int:
        # What stands in the padding is masked everywhere, so any id that the model knows will do.
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else (self.tokenizer.eos_token_id or 0)

    @property
    def hidden_size(self) -> int:
        return self._config.hidden_size

    @property
    def positions(self) -> int:
        """Tokens a row may have; what lies behind them this model has no place for."""
        return int(getattr(self._config, "max_position_embeddings", None) or 2**31)

    @property
    def vocabulary(self) -> int:
        """Token ids the model knows."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def _config(self) -> Any:
        config = self.model.config
        return getattr(config, "text_config", config)

    def encoder(self, max_length: int = 1024) -> Encoder:
        """Text to tokens for this model: rows no longer than it has positions, answers that end where its own do.

        Raises ModelError for a model with too few positions for a prompt and an answer.
        """
        if self.positions < LEAST_POSITIONS:
            raise ModelError(
                f"The model has {self.positions} positions (max_position_embeddings), too few for a prompt and an answer; give a "
                f"model with at least {LEAST_POSITIONS}."
            )
        ends = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = [] if ends is None else [ends] if isinstance(ends, int) else ends
        known = tuple(end for end in ends if 0 <= end < self.vocabulary)
        return Encoder(self.tokenizer, min(max_length, self.positions), known, self.moment)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def logps(
        self, completions: Sequence[PromptAnswer], *, align: bool = False, pooling: str | None = None, together: bool = False
    ) -> CompletionLogps:
        """Token log-probs of completions under the policy, [R, T]; see `completion_logps`. together: plain rows in one batch."""
        expected, ahead = self._ahead or ((), None)
        same = ahead is not None and pooling is None and ahead.shared is not None and ahead.shared.kernel == self.shared
        same = same and len(expected) == len(completions) and all(a is b for a, b in zip(expected, completions))
        with self.precision():
            return completion_logps(
                self.wrapped or self.graphs or self.module,
                completions,
                pad_id=self.pad_id,
                device=self.device,
                shared=self.shared,
                together=together or self.wrapped is not None,
                single=self.single,
                align=align,
                pooling=pooling,
                ahead=ahead if same else None,
            )

    def prebuild_batch(self, completions: Sequence[PromptAnswer]) -> None:
        """On a GPU: lay out the completions that `logps` will be asked for next, while the GPU still computes."""
        self._ahead = None
        if self.device.type == "cuda" and self.shared is not None and self.wrapped is None:
            batch = layout.shared(completions, self.device, kernel=self.shared)
            if batch.shared is not None and self.shared == "varlen":
                _ = batch.shared.sequences
            self._ahead = (tuple(completions), batch)

    def share_prompts(self) -> None:
        """Compute prompts once, where the model is written so that it can; `choose_layout` says whether it may."""
        if attention.install(without_adapter(self.model)):
            self.shared = "grouped" if self.device.type == "cpu" else "padded"

    def record_passes(self) -> bool:
        """Record forward and backward passes as CUDA graphs from now on, where everything in them can be; see `graphs.py`.
        False where it cannot."""
        drops = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in self.model.modules())
        can = fused.available(self.device) and self.shared == "varlen" and self.module.head.matrix is not None and not drops
        if can and self.graphs is None:
            self.graphs = Graphs(self.module, self.device, lambda: self.precision(cache=False))
        return can

    def use_plain_rows(self) -> None:
        """A row per completion, and the model's own attention."""
        self.graphs = None
        if self.shared is not None:
            attention.uninstall(without_adapter(self.model))
        self.shared, self.single = None, False

    def use_single_rows(self) -> None:
        """A row per completion, computed one at a time: right also for a model in which rows of a batch affect one another."""
        self.use_plain_rows()
        self.single = True

    @contextlib.contextmanager
    def as_loaded(self, head: Head | None = None) -> Iterator[None]:
        """Inside, log-probs are the model's own: one row at a time, its own attention, nothing fused, and its whole logits unless
        another `head` is given."""
        before, graphs = (self.module.head, self.shared, self.single), self.graphs
        self.module.head, self.shared, self.single, self.graphs = head or whole_head(self.model), None, True, None
        if before[1] is not None:
            attention.uninstall(without_adapter(self.model))
        try:
            with patches.disabled(self.model):
                yield
        finally:
            if before[1] is not None:
                attention.install(without_adapter(self.model))
            (self.module.head, self.shared, self.single), self.graphs = before, graphs

    @property
    def layout_key(self) -> str:
        """Everything about the way of computing that changes log-probs in their last bits; a part of the reference cache's key."""
        rows = self.shared or ("single" if self.single else "plain")
        logits = "whole" if self.module.head.whole else "split"
        written = "fused" if patches.patched(self.model, patches.OF_THE_MODEL) else "as written"
        return f"{self.device.type}:{rows}:{logits}:{written}"

    def unfuse(self) -> bool:
        """Let norms, gated units and adapters compute as they are written from now on; False where they do already."""
        return patches.restore_forwards(self.model) > 0

    @property
    def fused(self) -> bool:
        """Whether any of them computes as one operation."""
        return bool(patches.patched(self.model))

    def use_layout_of(self, other: Policy) -> None:
        """Compute log-probs in the layout that was found right for another policy of the same model."""
        if not other.fused:
            self.unfuse()
        if other.shared is None:
            self.use_plain_rows()
            self.single = other.single
        else:
            self.shared = other.shared
        if other.module.head.whole:
            self.module.head = whole_head(self.model)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, nothing is random: the adapter's dropout is off. No gradient either."""
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(was_training)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Inside, weights that are spread over several processes can be used from outside the log-probs (sampling)."""
        spread = getattr(self.wrapped, "unshard", None)
        if spread is None:
            yield
            return
        self.wrapped.unshard()
        try:
            yield
        finally:
            self.wrapped.reshard()

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the model is its own reference: the adapter is off. Without an adapter nothing changes, so use it
        only before the first step."""
        if not self.adapter:
            yield
            return
        with self.model.disable_adapter():
            yield

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """The adapter, or the whole model, with the tokenizer; loadable by peft and transformers alone.

        weights: whole tensors by name, where the model's own are spread over several processes."""
        self.model.save_pretrained(folder, safe_serialization=True, state_dict=weights)
        self.tokenizer.save_pretrained(folder)

    def precision(self, *, cache: bool = True) -> contextlib.AbstractContextManager[Any]:
        """Inside, matrix products are computed in the type of `autocast`; `cache`: weights are cast once, however often used."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast, cache_enabled=cache)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over several processes, whole; all of them have to ask."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def without_adapter(model: Any) -> Any:
    """The model without the adapter around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
