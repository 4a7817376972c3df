"""Writing a checkpoint's weights as folders that transformers and peft load: adapter, merged model, whole model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lab.policy.checks.arbitrary_row import arbitrary_logps, unexplained_difference
from lab.policy.sources.configuration import read_configuration
from lab.policy.sources.converted import is_converted, untie
from lab.policy.sources.generation_config import valid_generation_config
from lab.policy.sources.model_error import ModelError, model_errors
from lab.policy.sources.stored_adapters import with_adapter
from lab.policy.sources.tokenizer_loading import read_tokenizer
from lab.policy.sources.weight_loading import read_weights
from lab.policy.text.chat_template import ChatTemplate

from .source import ExportError, Source, adapter_configuration

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types of written weights."""

BASE = "base_model"
"""Folder of the base model inside an exported adapter's folder, if that was converted for the run."""


def write_adapter(source: Source, folder: Path, dtype: str | None) -> None:
    """Write the adapter for `peft.AutoPeftModelForCausalLM` and the tokenizer, in `dtype` or as in the checkpoint."""
    config = adapter_configuration(source)
    config["base_model_name_or_path"] = source.base.place()
    with _loading(str(source.folder)):
        tensors = load_file(source.folder / "adapter_model.safetensors")
    if dtype is not None:
        tensors = {name: tensor.to(DTYPES[dtype]) for name, tensor in tensors.items()}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    write_tokenizer(source, folder)


def write_merged(source: Source, folder: Path, dtype: str | None) -> None:
    """Write the base model with the adapter merged into its weights, computed in float32, written in `dtype` (default float32).

    Raises ExportError if the log-probs of the merged model differ from those of model and adapter by more than rounding.
    """
    place = source.base.place()
    with _loading(place):
        base = load_model(place, torch.float32)
    with _loading(str(source.folder)):
        model = with_adapter(base, source.folder).eval()
    expected = arbitrary_logps(model)
    untie(base)
    merged = model.merge_and_unload(safe_merge=True)
    difference = unexplained_difference(merged, expected)
    if difference:
        raise ExportError(
            f"The merged model differs from model and adapter by {difference:.3g} nats, more than rounding explains; "
            "export the adapter by itself."
        )
    _save(merged.to(DTYPES[dtype or "float32"]), source, folder)


def write_model(source: Source, folder: Path, dtype: str | None) -> None:
    """Write the model of a full fine-tune, in `dtype` or as in the checkpoint."""
    with _loading(str(source.folder)):
        model = load_model(str(source.folder), DTYPES[dtype] if dtype else "auto")
    _save(model, source, folder)


def load_model(source: str, dtype: Any) -> Any:
    """Load a causal language model on the CPU. Raises ModelError if it cannot be loaded or weights are missing."""
    from transformers import AutoModelForCausalLM

    return read_weights(AutoModelForCausalLM, source, read_configuration(source), dtype=dtype, **valid_generation_config(source))


def bring_base(source: Source, draft: Path, target: Path) -> None:
    """Copy the base model of an adapter into its folder, if it was converted for the run and exists only in the lab's cache.

    Args:
        source: The checkpoint.
        draft: The folder that is being written; files are hard-linked if possible.
        target: The name that the folder will have.
    """
    if not is_converted(source.base.source):
        return
    shutil.copytree(source.base.place(), draft / BASE, copy_function=link_or_copy)
    path = draft / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": str(target / BASE)}
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def link_or_copy(source: str, target: str) -> str:
    """Create a hard link to a file, or a copy if the file system has no links; returns the target."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def write_tokenizer(source: Source, folder: Path) -> None:
    """Write the tokenizer and its chat template, as the run used them."""
    with _loading(str(source.folder)):
        read_tokenizer(str(source.folder)).save_pretrained(folder)


def fixed_template(source: Source) -> str | None:
    """Return the chat template with the run's date and time fixed, or None if it does not print them."""
    with _loading(str(source.folder)):
        tokenizer = read_tokenizer(str(source.folder))
    template = ChatTemplate(tokenizer, source.config.moment)
    return template.fixed if getattr(tokenizer, "chat_template", None) and template.prints_the_date else None


def _save(model: Any, source: Source, folder: Path) -> None:
    model.save_pretrained(folder)
    write_tokenizer(source, folder)


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """Turn a ModelError into an ExportError that names the model."""
    try:
        with model_errors(f"The model in {what}", "put it back, or choose another checkpoint"):
            yield
    except ModelError as error:
        raise ExportError(f"The model in {what} cannot be loaded, so nothing was exported: {error}") from error
