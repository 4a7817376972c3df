"""Loading a causal language model and its tokenizer, whole or with a LoRA adapter, ready to be trained."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import fused, low_rank
from .habits import tolerated
from .policy import Policy, whole
from .randomness import global_generator


class ModelError(ValueError):
    """A model that cannot be loaded or used, in one sentence."""


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter (arXiv 2106.09685): rank r, scale alpha / r, dropout on its input, module names or "all-linear"."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str = "all-linear"


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


def load_policy(
    source: str,
    *,
    lora: Lora | None = None,
    device: str = "auto",
    seed: int = 0,
    precision: str = "auto",
    quantize: str = "none",
    gradient_checkpointing: bool = False,
) -> Policy:
    """A policy from a Hugging Face folder or hub id of a causal LM.

    Weights are read from safetensors only and no code of the model's repository is run. `seed` fixes the adapter's first weights.
    precision: "auto" is float32 on the CPU and bfloat16 autocast on a GPU that can. A base below an adapter is never
    trained, so under bfloat16 its weights are held in bfloat16; weights in training stay float32.
    quantize: "4bit" holds a base below an adapter in 4 bits (QLoRA, arXiv 2305.14314); needs a GPU and bitsandbytes.
    Raises ModelError with what to do about it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would run across the lab's own
    where = choose_device(device)
    autocast = check_precision(precision, where)
    weights = torch.bfloat16 if autocast is not None and lora is not None else torch.float32
    more = four_bits(where, lora) if quantize == "4bit" else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with global_generator(seed):  # weights are drawn before they are read, and another run may be drawing at this moment
            model = AutoModelForCausalLM.from_pretrained(
                source, trust_remote_code=False, use_safetensors=True, dtype=weights, **more, **tolerated(source)
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_loading_advice(source, error)) from error
    _check_special_tokens(source, tokenizer, model.get_input_embeddings().num_embeddings)
    switch_dropout_off(model)
    model = (model if more else model.to(where)).train()
    fingerprint = weights_hash(model)
    if lora is not None:
        model = _with_lora(model, lora, seed)
        low_rank.fuse(model)
    if fused.available(where):
        fused.fuse(model, again=not gradient_checkpointing)
    if gradient_checkpointing:
        _checkpoint_layers(model, source, drops=lora is not None and lora.dropout > 0)
    policy = Policy(model, tokenizer, where, fingerprint, lora is not None, autocast)
    policy.share_prompts()
    return policy


def load_trained(folder: Path, *, device: str = "auto") -> Policy:
    """A policy as a checkpoint left it: a whole model, or an adapter on its base."""
    if not (folder / "adapter_config.json").exists():
        return load_policy(str(folder), device=device)
    from peft import PeftConfig, PeftModel

    base = load_policy(str(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path), device=device)
    model = PeftModel.from_pretrained(base.model, str(folder), is_trainable=True)
    return Policy(model, base.tokenizer, base.device, base.fingerprint, True, base.autocast, base.shared)


def check_model(source: str) -> None:
    """Raises ModelError unless the configuration in `source` (a folder or hub id) is that of a causal language model.

    Cheap: whoever makes a run asks before it is made.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_loading_advice(source, error)) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{source} is no causal language model ({type(config).__name__}); give one that writes text.")


def check_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of autocast that a precision means on a device, None for none. Raises ModelError for one it does not have."""
    can = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" and device.type == "cuda" and not can:
        raise ModelError("This GPU cannot compute in bfloat16; use precision float32.")
    return torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and can) else None


def four_bits(device: torch.device, lora: Lora | None) -> dict[str, Any]:
    """How transformers is told to hold a base in 4 bits. Raises ModelError where that cannot be."""
    if lora is None:
        raise ModelError("A model in 4 bits cannot be trained itself; give it an adapter (lora_rank above 0), or quantize none.")
    if importlib.util.find_spec("bitsandbytes") is None or device.type != "cuda":
        raise ModelError("4 bits need a CUDA GPU and the package bitsandbytes (pip install bitsandbytes); use quantize none here.")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _checkpoint_layers(model: Any, source: str, *, drops: bool) -> None:
    try:
        # Where nothing is drawn, there is no generator to put back before a layer is computed again.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, "preserve_rng_state": drops})
    except ValueError as error:
        raise ModelError(f"{source} cannot recompute its layers ({error}); switch gradient_checkpointing off.") from None


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
    return whole(tensor.detach()).cpu().contiguous().flatten().view(torch.uint8).numpy()


def _loading_advice(source: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(source).exists():
        return f"The folder {source} does not hold a causal language model that can be loaded: {first}"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return (
            f"There is no folder {source}, and the hub is switched off (HF_HUB_OFFLINE=1); give a local model folder, or unset it."
        )
    return f"The model {source} is neither a folder here nor reachable on the hub: {first}"
