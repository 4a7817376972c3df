"""Loading a causal language model and its tokenizer, whole or with a LoRA adapter, ready to be trained."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .logps import Completion, CompletionLogps, Head, completion_logps, split_head
from .randomness import global_generator
from .tokens import Encoder


class ModelError(ValueError):
    """A model that cannot be loaded or used, in one sentence."""


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter (arXiv 2106.09685): rank r, scale alpha / r, dropout on its input, module names or "all-linear"."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str = "all-linear"


@dataclass
class Policy:
    """A model in training with its tokenizer.

    fingerprint: hash of the reference weights (the model as loaded, adapter apart) - the key of the reference cache.
    head:        how hidden states become logits.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    fingerprint: str
    adapter: bool
    head: Head = field(repr=False)
    autocast: torch.dtype | None = None

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
        """Text to tokens for this model: rows no longer than it has positions, answers that end where its own do."""
        ends = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = [] if ends is None else [ends] if isinstance(ends, int) else ends
        return Encoder(self.tokenizer, min(max_length, self.positions), tuple(e for e in ends if e < self.vocabulary))

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def logps(self, completions: Sequence[Completion], *, align: bool = False, pooling: str | None = None) -> CompletionLogps:
        """Token log-probs of completions under the policy, [R, T]; see `completion_logps`."""
        with self._precision():
            return completion_logps(self.head, completions, pad_id=self.pad_id, device=self.device, align=align, pooling=pooling)

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
    def reference(self) -> Iterator[None]:
        """Inside, the model is its own reference: the adapter is off. Without an adapter nothing changes, so use it
        only before the first step."""
        if not self.adapter:
            yield
            return
        with self.model.disable_adapter():
            yield

    def save(self, folder: Path) -> None:
        """The adapter, or the whole model, with the tokenizer; loadable by peft and transformers alone."""
        self.model.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)


def choose_device(device: str = "auto") -> torch.device:
    """`auto`: the first GPU if there is one, else the CPU. Raises ModelError for a device that is not here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}); choose auto or cpu.") from None
    return chosen


def load_policy(source: str, *, lora: Lora | None = None, device: str = "auto", seed: int = 0) -> Policy:
    """A policy from a Hugging Face folder or hub id of a causal LM.

    Weights are read from safetensors only and no code of the model's repository is run. Float32 on the CPU; on a GPU that can,
    bfloat16 autocast. `seed` fixes the adapter's first weights. Raises ModelError with what to do about it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would run across the lab's own
    where = choose_device(device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with global_generator(seed):  # weights are drawn before they are read, and another run may be drawing at this moment
            model = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_loading_advice(source, error)) from error
    _check_special_tokens(source, tokenizer, model.get_input_embeddings().num_embeddings)
    switch_dropout_off(model)
    model.to(where).train()
    fingerprint = weights_hash(model)
    if lora is not None:
        model = _with_lora(model, lora, seed)
    autocast = torch.bfloat16 if where.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return Policy(model, tokenizer, where, fingerprint, lora is not None, split_head(model), autocast)


def load_trained(folder: Path, *, device: str = "auto") -> Policy:
    """A policy as a checkpoint left it: a whole model, or an adapter on its base."""
    if not (folder / "adapter_config.json").exists():
        return load_policy(str(folder), device=device)
    from peft import PeftConfig, PeftModel

    base = load_policy(str(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path), device=device)
    model = PeftModel.from_pretrained(base.model, str(folder), is_trainable=True)
    return Policy(model, base.tokenizer, base.device, base.fingerprint, True, split_head(model), base.autocast)


def _check_special_tokens(source: str, tokenizer: Any, vocabulary: int) -> None:
    """Every answer needs an end, and padding an id that the model knows. Raises ModelError where there is no end."""
    eos = tokenizer.eos_token_id
    if eos is None or eos >= vocabulary:
        raise ModelError(
            f"The tokenizer of {source} has no end-of-sequence token that the model knows, so no answer can end; "
            "set eos_token in its configuration."
        )
    # Some tokenizer classes bring a padding token of their own, with an id behind the model's last row.
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= vocabulary:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.bos_token_id is not None and tokenizer.bos_token_id >= vocabulary:
        tokenizer.bos_token = None


def _with_lora(model: Any, lora: Lora, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    targets: Any = lora.targets if lora.targets == "all-linear" else [name.strip() for name in lora.targets.split(",")]
    transposed = any(type(module).__name__ == "Conv1D" for module in model.modules())  # GPT-2 keeps its weights the other way round
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )
    with global_generator(seed):
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise ModelError(
                f"The adapter does not fit this model ({error}); name its linear modules in lora_targets, or use all-linear."
            ) from error


def switch_dropout_off(model: torch.nn.Module) -> None:
    """Dropout would make policy and reference differ before the first step, and the log-probs of a pair random."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config = getattr(model, "config", None)
    for name in ("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout", "classifier_dropout"):
        if getattr(config, name, None):
            setattr(config, name, 0.0)
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]


def weights_hash(model: Any) -> str:
    """A hash of every weight and of the configuration, 16 hex digits: two models with the same one have the same log-probs."""
    digest = hashlib.blake2b(digest_size=8)
    config = {key: value for key, value in model.config.to_dict().items() if key not in ("_name_or_path", "transformers_version")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _loading_advice(source: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(source).exists():
        return f"The folder {source} does not hold a causal language model that can be loaded: {first}"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return (
            f"There is no folder {source}, and the hub is switched off (HF_HUB_OFFLINE=1); give a local model folder, or unset it."
        )
    return f"The model {source} is neither a folder here nor reachable on the hub: {first}"
