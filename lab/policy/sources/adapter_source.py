"""Check an adapter's folder and find its base model and tokenizer, without reading weights."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, INDEX, WEIGHTS, read_json, stored_tensors, weight_files
from .model_error import ModelError, cause
from .tokenizer_loading import has_tokenizer

PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Files of a hub model that are downloaded."""


def is_adapter(source: str) -> bool:
    """Return whether `source` is a folder with a peft adapter."""
    return (Path(source).expanduser() / ADAPTER_CONFIG).exists()


def check_adapter(folder: Path) -> str:
    """Check the adapter in a folder without reading weights; returns its base model. Raises ModelError."""
    content = read_json(folder / ADAPTER_CONFIG)
    if any((folder / name).exists() for name in (WEIGHTS, INDEX)):
        raise ModelError(
            f"The folder {folder} holds both an adapter ({ADAPTER_CONFIG}) and a whole model; move one of them elsewhere, and give "
            "the folder of the one you mean."
        )
    if content.get("auto_mapping") is not None and content.get("base_model_name_or_path") is None:
        raise ModelError(f"The adapter in {folder} does not name its base model; set base_model_name_or_path in {ADAPTER_CONFIG}.")
    if content.get("task_type") not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"The adapter in {folder} was trained for {content['task_type']}, not for a causal language model; give another one."
        )
    if not (folder / ADAPTER_WEIGHTS).exists():
        pickled = (
            "its weights are a pickle (adapter_model.bin), which the lab does not read"
            if (folder / "adapter_model.bin").exists()
            else f"{ADAPTER_WEIGHTS} is missing"
        )
        raise ModelError(f"The adapter in {folder} is incomplete: {pickled}; save it again with peft, as safetensors.")
    stored_tensors(folder / ADAPTER_WEIGHTS)
    _require_end(folder)
    return adapter_base(folder)


def _require_end(folder: Path) -> None:
    """Raise ModelError where adapters are each other's base, so that there is no base model."""
    seen = {folder.resolve()}
    base = Path(adapter_base(folder))
    while is_adapter(str(base)):
        if base.resolve() in seen:
            raise ModelError(
                f"The adapters in {folder} and {base} have each other as base model; set base_model_name_or_path in one of their "
                f"{ADAPTER_CONFIG} to a model."
            )
        seen.add(base.resolve())
        base = Path(adapter_base(base))


def adapter_base(folder: Path, *, download: bool = False) -> str:
    """Return the base model of an adapter: a folder, or the id of a hub model that is not on this machine yet.

    Args:
        folder: The adapter's.
        download: Download a hub model and return its folder.

    Raises:
        ModelError: The base model does not exist.
    """
    named = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip():
        raise ModelError(f"The adapter in {folder} does not name its base model; set base_model_name_or_path in {ADAPTER_CONFIG}.")
    for place in (Path(named).expanduser(), folder / named):
        if place.is_dir() and place.resolve() != folder.resolve():
            return str(place.resolve())
    missing = (
        f"The adapter in {folder} belongs to the base model {named}, which is not there; restore it, or set "
        f"base_model_name_or_path in {ADAPTER_CONFIG} to its path."
    )
    if Path(named).is_absolute() or named.startswith((".", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", named):
        raise ModelError(missing)
    if not download:
        return _in_cache(named) or _on_hub(named, missing)
    return _downloaded(named, missing)


def _in_cache(name: str) -> str | None:
    """The folder of a hub model that is completely downloaded, or None."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=PATTERNS, local_files_only=True))
        if not is_adapter(str(folder)):
            weight_files(folder)
    except Exception:  # missing or incomplete; a download reports what is wrong
        return None
    return str(folder)


def _on_hub(name: str, refusal: str) -> str:
    """The id of a model that must be downloaded. Raises ModelError(refusal) where the hub is switched off."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise ModelError(f"{refusal[:-1]} (the hub is switched off (HF_HUB_OFFLINE=1)).")
    return name


def _downloaded(name: str, refusal: str) -> str:
    """The folder of a hub model's downloaded snapshot. Raises ModelError(refusal)."""
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, allow_patterns=PATTERNS))
    except Exception as error:  # of the hub's client, of the network or of the disk
        why = "the hub is switched off (HF_HUB_OFFLINE=1)" if os.environ.get("HF_HUB_OFFLINE") == "1" else cause(error)
        raise ModelError(f"{refusal[:-1]} ({why}).") from error


def tokenizer_place(source: str, base: str) -> str:
    """Return where the tokenizer of a source is: the adapter's folder if it has one, else the base model."""
    return source if is_adapter(source) and has_tokenizer(Path(source).expanduser()) else base
