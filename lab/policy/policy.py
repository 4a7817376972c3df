"""`Policy`: a model in training with its tokenizer, its log-probs, its reference and its files."""

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
from lab.policy.text.encoding import Encoder
from lab.policy.text.template_time import now

from . import layout
from .cuda_graphs import CudaGraphs
from .kernels import attention, fused, last_layer, patches
from .layout import Batch, PromptAnswer
from .logps import CompletionLogps, Head, LogpsModule, completion_logps, split_head, whole_head

LEAST_POSITIONS = 16
"""Minimum for a prompt and an answer."""


@dataclass
class Policy:
    """A model in training with its tokenizer.

    model:       A transformers model, or a peft model around it.
    tokenizer:   Its tokenizer.
    device:      Where it computes.
    fingerprint: Hash of the reference weights (the model as loaded, without the adapter); key of the reference cache.
    adapter:     Whether an adapter is trained instead of all weights.
    autocast:    Type of matrix products, where it differs from that of the weights.
    shared:      Attention kernel with which prompts are computed once, or None for one row per completion.
    single:      Whether rows are computed one at a time instead of in batches (only without shared prompts).
    module:      Computes log-probs; replaced by `wrapped` (DDP, FSDP) or by `graphs` (CUDA graphs) where these are set.
    moment:      Date and time that the chat template gets, one for a whole run.
    sampling_way: Index of the way of generating, in `sampling.WAYS`, that gives samples of this model.
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
    graphs: CudaGraphs | None = field(default=None, repr=False)
    moment: datetime = field(default_factory=now)
    sampling_way: int = field(default=0, repr=False)
    _prebuilt: tuple[tuple[PromptAnswer, ...], Batch] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.module = LogpsModule(self.model, split_head(self.model))

    @property
    def pad_id(self) -> int:
        """Token id of the padding; it is masked everywhere, so any id of the vocabulary works."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else (self.tokenizer.eos_token_id or 0)

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return self._config.hidden_size

    @property
    def positions(self) -> int:
        """Maximum number of tokens of a row."""
        return int(getattr(self._config, "max_position_embeddings", None) or 2**31)

    @property
    def vocabulary(self) -> int:
        """Number of token ids of the model."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def _config(self) -> Any:
        config = self.model.config
        return getattr(config, "text_config", config)

    def encoder(self, max_length: int = 1024) -> Encoder:
        """Make the encoder of texts for this model, with rows of at most `max_length` tokens and of the model's positions.

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
        """Return the trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def logps(
        self, completions: Sequence[PromptAnswer], *, align: bool = False, pooling: str | None = None, together: bool = False
    ) -> CompletionLogps:
        """Compute token log-probs of completions under the policy; arguments and result as in `completion_logps`."""
        expected, prebuilt = self._prebuilt or ((), None)
        same = prebuilt is not None and pooling is None and prebuilt.shared is not None and prebuilt.shared.kernel == self.shared
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
                prebuilt=prebuilt if same else None,
            )

    def prebuild_batch(self, completions: Sequence[PromptAnswer]) -> None:
        """Build the batch of the next call of `logps` while the GPU still computes; does nothing on the CPU."""
        self._prebuilt = None
        if self.device.type == "cuda" and self.shared is not None and self.wrapped is None:
            batch = layout.shared(completions, self.device, kernel=self.shared)
            if batch.shared is not None and self.shared == "varlen":
                _ = batch.shared.sequences
            self._prebuilt = (tuple(completions), batch)

    def share_prompts(self) -> None:
        """Compute shared prompts once, where the model's attention can be replaced; `choose_layout` checks the result.

        On the CPU the last layer then leaves out what no answer needs.
        """
        if attention.install(without_adapter(self.model)):
            self.shared = "grouped" if self.device.type == "cpu" else "padded"
            if self.device.type == "cpu":
                last_layer.install(without_adapter(self.model))

    def record_passes(self) -> bool:
        """Record forward and backward passes as CUDA graphs from now on; returns False where that is impossible."""
        drops = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in self.model.modules())
        recordable = fused.available(self.device) and self.shared == "varlen" and self.module.head.matrix is not None and not drops
        if recordable and self.graphs is None:
            self.graphs = CudaGraphs(self.module, self.device, lambda: self.precision(cache=False))
        return recordable

    def use_plain_rows(self) -> None:
        """Use one row per completion and the model's own attention."""
        self.graphs = None
        if self.shared is not None:
            attention.uninstall(without_adapter(self.model))
        self.use_whole_last_layer()
        self.shared, self.single = None, False

    def use_single_rows(self) -> None:
        """Compute one row at a time: correct also for a model in which the rows of a batch affect one another."""
        self.use_plain_rows()
        self.single = True

    @contextlib.contextmanager
    def as_loaded(self, head: Head | None = None) -> Iterator[None]:
        """Compute log-probs inside the block as the model itself does: one row at a time, own attention, nothing fused.

        Logits are computed at every position unless a `head` is given.
        """
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
        """Everything in the way of computing that changes the last bits of log-probs; part of the reference cache's key."""
        rows = self.shared or ("single" if self.single else "plain")
        logits = "whole" if self.module.head.whole else "split"
        written = "fused" if patches.patched(self.model, patches.OF_THE_MODEL) else "as written"
        return f"{self.device.type}:{rows}:{logits}:{written}{':narrow' if self.narrow else ''}"

    def unfuse(self) -> bool:
        """Undo the fusing of norms, gated units and adapters; returns False where nothing was fused."""
        return patches.restore_forwards(self.model, patches.FUSED) > 0

    @property
    def fused(self) -> bool:
        """Whether any norm, gated unit or adapter is fused."""
        return bool(patches.patched(self.model, patches.FUSED))

    def use_whole_last_layer(self) -> bool:
        """Compute the last layer for every token; returns False where it is already."""
        return patches.restore_forwards(self.model, patches.LAST_LAYER) > 0

    @property
    def narrow(self) -> bool:
        """Whether the last layer is computed only for tokens whose final state is read (see `kernels.last_layer`)."""
        return bool(patches.patched(self.model, patches.LAST_LAYER))

    def use_layout_of(self, other: Policy) -> None:
        """Take over the layout of another policy of the same model."""
        if not other.fused:
            self.unfuse()
        if not other.narrow:
            self.use_whole_last_layer()
        if other.shared is None:
            self.use_plain_rows()
            self.single = other.single
        else:
            self.shared = other.shared
        if other.module.head.whole:
            self.module.head = whole_head(self.model)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Compute in evaluation mode (no dropout) and without gradients inside the block."""
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(was_training)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather weights that FSDP shards over processes inside the block, for use outside `logps` (sampling)."""
        if getattr(self.wrapped, "unshard", None) is None:
            yield
            return
        self.wrapped.unshard()
        try:
            yield
        finally:
            self.wrapped.reshard()

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Compute as the reference inside the block, by switching the adapter off.

        Without an adapter this changes nothing, so use it only before the first step.
        """
        if not self.adapter:
            yield
            return
        with self.model.disable_adapter():
            yield

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Save the adapter, or the whole model, with the tokenizer, as peft and transformers do.

        Args:
            folder: Where to save.
            weights: Full tensors by name, where the model's own are sharded over processes.
        """
        self.model.save_pretrained(folder, safe_serialization=True, state_dict=weights)
        self.tokenizer.save_pretrained(folder)

    def precision(self, *, cache: bool = True) -> contextlib.AbstractContextManager[Any]:
        """Return the autocast context of `autocast`; `cache`: cast each weight once inside the block."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast, cache_enabled=cache)


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor of one that may be sharded over processes; a collective call."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def without_adapter(model: Any) -> Any:
    """Return the model inside a peft model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
