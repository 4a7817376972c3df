"""Writing a checkpoint's weights as folders that transformers and peft load: adapter, merged model, whole model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lab.policy.chat_template import ChatTemplate
from lab.policy.habits import tolerated
from lab.policy.randomness import global_generator

from .source import ExportError, Source

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types that weights are written in."""

MERGE_TOLERANCE = 1e-2
"""Largest difference of a log-prob (nats) between adapter and merged model that float32 rounding explains."""


def write_adapter(source: Source, folder: Path, dtype: str | None) -> None:
    """The adapter for `peft.AutoPeftModelForCausalLM`, with the tokenizer; in `dtype`, or as in the checkpoint."""
    config = json.loads((source.folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = source.base.place()
    with _loading(str(source.folder)):
        tensors = load_file(source.folder / "adapter_model.safetensors")
    if dtype is not None:
        tensors = {name: tensor.to(DTYPES[dtype]) for name, tensor in tensors.items()}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    write_tokenizer(source, folder)


def write_merged(source: Source, folder: Path, dtype: str | None) -> None:
    """The base model with the adapter added to its weights: computed in float32, written in `dtype` (default float32).

    Raises ExportError if the merged model's log-probs are not those of model and adapter.
    """
    from peft import PeftModel

    place = source.base.place()
    with _loading(place):
        base = load_model(place, torch.float32)
        model = PeftModel.from_pretrained(base, str(source.folder)).eval()
    expected = _logps(model)
    _untie(base)
    merged = model.merge_and_unload(safe_merge=True)
    difference = float((_logps(merged) - expected).abs().max())
    if not difference <= MERGE_TOLERANCE:
        raise ExportError(
            f"The merged model differs from model and adapter by {difference:.3g} nats, more than rounding explains; "
            "export the adapter by itself."
        )
    _save(merged.to(DTYPES[dtype or "float32"]), source, folder)


def write_model(source: Source, folder: Path, dtype: str | None) -> None:
    """The whole model of a full fine-tune, in `dtype`, or as in the checkpoint."""
    with _loading(str(source.folder)):
        model = load_model(str(source.folder), DTYPES[dtype] if dtype else "auto")
    _save(model, source, folder)


def load_model(source: str, dtype: Any) -> Any:
    """A causal LM on the CPU; weights from safetensors only, and no code of the model's repository is run."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would run across the lab's own
    with global_generator(0):  # weights are drawn before they are read, and a run may be drawing at this moment
        return AutoModelForCausalLM.from_pretrained(
            source, trust_remote_code=False, use_safetensors=True, dtype=dtype, **tolerated(source)
        )


def write_tokenizer(source: Source, folder: Path) -> None:
    """The tokenizer with its chat template, as the run used it."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(str(source.folder), trust_remote_code=False).save_pretrained(folder)


def fixed_template(source: Source) -> str | None:
    """The chat template with the run's moment in it, where it prints date or time; None where it writes the same on any day."""
    from transformers import AutoTokenizer

    with _loading(str(source.folder)):
        tokenizer = AutoTokenizer.from_pretrained(str(source.folder), trust_remote_code=False)
    template = ChatTemplate(tokenizer, source.config.moment)
    return template.fixed if getattr(tokenizer, "chat_template", None) and template.prints_the_date else None


def _save(model: Any, source: Source, folder: Path) -> None:
    model.save_pretrained(folder)
    write_tokenizer(source, folder)


def _logps(model: Any) -> torch.Tensor:
    """Log-probs of a row of arbitrary tokens, [16, vocabulary]."""
    vocabulary = model.get_input_embeddings().num_embeddings
    row = torch.randint(vocabulary, (1, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(input_ids=row).logits[0].float().log_softmax(-1)


def _untie(base: Any) -> None:
    """An adapter on an output layer that shares its weights with the input embedding must not be merged into both."""
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    inner = getattr(head, "base_layer", None)
    if inner is not None and inner.weight is getattr(embedding, "base_layer", embedding).weight:
        inner.weight = torch.nn.Parameter(inner.weight.detach().clone())
        base.config.tie_word_embeddings = False


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """A failure to load, in one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"The model in {what} cannot be loaded, so nothing was exported: {reason}") from error
