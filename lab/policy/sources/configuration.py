"""Read a model's configuration and refuse quantized weights, unknown architectures and code outside transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .files import ADAPTER_CONFIG, CONFIG, read_json
from .model_error import ModelError, cause, model_errors

QUANTIZED = ("quantization_config", "compression_config", "quantization")
"""Entries of config.json that describe quantized weights (the last one is MLX's)."""
PORTABLE_ATTENTION = ("eager", "sdpa")
"""Attention implementations that every machine has; any other one in a configuration is replaced by transformers' default."""


def read_configuration(source: str) -> Any:
    """Read the configuration of a folder or hub id, with an attention implementation that works on this machine.

    Raises:
        ModelError: Broken or unknown configuration, code outside transformers, or quantized weights.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    local = Path(source).is_dir()
    if not local:
        _refuse_hub_adapter(source)
    content = read_json(Path(source) / CONFIG) if local else {}
    if local:
        _check_content(source, content, content.get("model_type") in CONFIG_MAPPING)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # a configuration is untrusted data: transformers raises many kinds
        if not local:
            raise ModelError(_hub_refusal(source, error)) from error
        with model_errors(f"The configuration {Path(source) / CONFIG}", "repair it, or download the model again"):
            raise
    if not local:
        _check_content(source, config.to_dict(), True)
    _make_portable(config)
    config.return_dict = True  # outputs are read by name
    config.output_attentions = config.output_hidden_states = False  # unused; some attention kernels cannot return attentions
    return config


def require_causal(source: str, config: Any) -> None:
    """Raise ModelError unless transformers has a causal language model of this configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{source} is no causal language model ({type(config).__name__}); give a model that generates text.")


def _check_content(source: str, content: dict[str, Any], known: bool) -> None:
    where = f"The model in {source}" if Path(source).is_dir() else f"The model {source}"
    for entry in QUANTIZED:
        if content.get(entry):
            described = content[entry] if isinstance(content[entry], dict) else {}
            method = described.get("quant_method") or described.get("quantization_method") or entry
            raise ModelError(
                f"{where} has quantized weights ({method}), which cannot be trained or turned back; give the model before "
                "quantization, with quantize=4bit to hold it in 4 bits on a GPU."
            )
    if known:
        return
    if content.get("auto_map"):
        raise ModelError(
            f"{where} needs code of its own (auto_map in {CONFIG}), which the lab does not run; give an architecture that is "
            "part of transformers."
        )
    named = content.get("model_type")
    from transformers import __version__

    if named is None:
        raise ModelError(f"{where} names no model_type in {CONFIG}, so its architecture is unknown; add it, or download it again.")
    raise ModelError(
        f"{where} has the model_type {named!r}, which transformers {__version__} does not know; update transformers, or give "
        "another model."
    )


def _make_portable(config: Any) -> None:
    """Leave the choice of attention to transformers where the configuration names one that this machine may not have."""
    parts: list[Any] = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", {}))]
    for part in parts:
        chosen = getattr(part, "_attn_implementation_internal", None)
        if chosen is not None and chosen not in PORTABLE_ATTENTION:
            part._attn_implementation_internal = None


def _refuse_hub_adapter(source: str) -> None:
    """Raise ModelError for the hub id of an adapter, which transformers would load in its own way."""
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(source, ADAPTER_CONFIG)
    except Exception:  # no such file, or no such model, which reading the configuration reports
        return
    raise ModelError(
        f"The model {source} on the hub is an adapter ({ADAPTER_CONFIG}); download it (hf download {source} --local-dir FOLDER) "
        "and give that folder."
    )


def _hub_refusal(source: str, error: Exception) -> str:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return (
            f"There is no folder {source}, and the hub is switched off (HF_HUB_OFFLINE=1); give a local model folder, or unset it."
        )
    return f"The model {source} is neither a folder here nor reachable on the hub ({cause(error)}); check its name and the network."
