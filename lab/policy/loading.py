"""Load a causal language model and its tokenizer for training, whole or with a LoRA adapter."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lab.policy.checks.dropout import switch_dropout_off
from lab.policy.sources.adapter_source import tokenizer_place
from lab.policy.sources.adapters import Lora, add_adapter, check_targets

from .kernels import fused, low_rank
from .policy import Policy, full_tensor
from .sources.adapter_source import is_adapter
from .sources.configuration import read_configuration, require_causal
from .sources.converted import check_source, is_gguf, loadable
from .sources.files import check_folder
from .sources.model_error import ModelError
from .sources.tokenizer_loading import check_special_tokens, read_tokenizer
from .sources.weight_loading import check_weights, read_weights


def choose_device(device: str = "auto") -> torch.device:
    """Return the device of this name; `auto` is the first GPU if there is one, else the CPU.

    Raises ModelError for a device that this machine does not have.
    """
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
    """Load a policy from a Hugging Face folder, a hub id, an adapter's folder (merged into its base) or a GGUF file.

    Weights are read from safetensors only, and no code of the model's repository is run.

    Args:
        source: Folder, hub id or file.
        lora: Train a new adapter of this kind; None trains all weights.
        device: As in `choose_device`.
        seed: Of the adapter's initial weights.
        precision: "auto" is float32 on the CPU and bfloat16 autocast on a GPU that supports it. Weights in training stay
            float32; the base of an adapter is held in bfloat16 under bfloat16.
        quantize: "4bit" holds the base of an adapter in 4 bits (QLoRA, arXiv 2305.14314); needs a GPU and bitsandbytes.
        gradient_checkpointing: Recompute layers in the backward pass instead of keeping their activations.

    Raises:
        ModelError: One sentence with the cause and what to do.
    """
    from transformers import AutoModelForCausalLM

    target = choose_device(device)
    autocast = check_precision(precision, target)
    weights = torch.bfloat16 if autocast is not None and lora is not None else torch.float32
    quantization = four_bits(target, lora) if quantize == "4bit" else {}
    check_source(source)
    place = loadable(source)
    config = read_configuration(place)
    require_causal(place, config)
    tokenizer = read_tokenizer(place)
    model = read_weights(AutoModelForCausalLM, place, config, dtype=weights, seed=seed, **quantization)
    check_special_tokens(source, tokenizer, model.get_input_embeddings().num_embeddings)
    switch_dropout_off(model)
    model = (model if quantization else model.to(target)).train()
    fingerprint = weights_hash(model)
    if lora is not None:
        model = add_adapter(model, lora, seed)
        low_rank.fuse(model)
    if fused.available(target):
        fused.fuse(model, recompute=not gradient_checkpointing)
    if gradient_checkpointing:
        _checkpoint_layers(model, source, drops=lora is not None and lora.dropout > 0)
    policy = Policy(model, tokenizer, target, fingerprint, lora is not None, autocast)
    policy.share_prompts()
    return policy


def check_model(source: str, *, lora: Lora | None = None) -> None:
    """Check a model without reading its weights; cheap enough to be done before a run starts.

    Checked are files, configuration, tokenizer, names and shapes of all weights, and the adapter's targets; of a hub id only the
    configuration, because the rest may need a download.

    Raises:
        ModelError: One sentence with the cause and what to do.
    """
    from transformers import AutoModelForCausalLM

    place = check_source(source)
    if place is None or is_adapter(place) or is_gguf(place):
        return  # GGUF files and adapters on adapters are checked when they are converted
    if is_adapter(source) and Path(place).is_dir():
        check_folder(Path(place))
    config = read_configuration(place)
    require_causal(place, config)
    if not Path(place).is_dir():
        return
    tokenizer = read_tokenizer(tokenizer_place(source, place))
    model = check_weights(AutoModelForCausalLM, place, config)
    check_special_tokens(source, tokenizer, model.get_input_embeddings().num_embeddings)
    if lora is not None:
        check_targets(model, lora.targets)


def check_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type of a precision on a device, or None for float32. Raises ModelError where it is not supported."""
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" and device.type == "cuda" and not supported:
        raise ModelError("This GPU cannot compute in bfloat16; use precision float32.")
    return torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and supported) else None


def four_bits(device: torch.device, lora: Lora | None) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for a base in 4 bits. Raises ModelError where 4 bits are not possible."""
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
        # Without dropout the generator's state need not be restored before a layer is recomputed.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, "preserve_rng_state": drops})
    except ValueError as error:
        raise ModelError(f"{source} cannot recompute its layers ({error}); switch gradient_checkpointing off.") from None


def weights_hash(model: Any) -> str:
    """Return a hash of all weights and the configuration, 16 hex digits; models with equal hashes have equal log-probs."""
    digest = hashlib.blake2b(digest_size=8)
    config = {key: value for key, value in model.config.to_dict().items() if key not in ("_name_or_path", "transformers_version")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return full_tensor(tensor.detach()).cpu().contiguous().flatten().view(torch.uint8).numpy()
