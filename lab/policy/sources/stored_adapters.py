"""Load a stored adapter onto its base model and check that every tensor comes from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import ADAPTER_CONFIG, read_json
from .model_error import ModelError, model_errors


def with_adapter(base: Any, folder: Path, *, trainable: bool = False) -> Any:
    """Return a peft model of `base` with the adapter in a folder. Raises ModelError for missing, extra or non-finite tensors."""
    from peft import PeftModel, get_peft_model_state_dict, load_peft_weights

    where = f"The adapter in {folder}"
    own = set(base.state_dict())
    with model_errors(where, "give the base model that it was trained on, or save it again with this version of peft"):
        model = PeftModel.from_pretrained(base, str(folder), is_trainable=trainable)
        expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
        stored = load_peft_weights(str(folder), device="cpu")
    merges = hasattr(model, "merge_and_unload") and hasattr(model.base_model, "merge_and_unload")
    if not merges:
        kind = read_json(folder / ADAPTER_CONFIG).get("peft_type")
        raise ModelError(
            f"{where} is of the type {kind}, which cannot be merged into a model; give a LoRA adapter, or a whole model."
        )
    check_adapter_names(where, expected, {name for name in stored if name in expected or _of_base(name) not in own})
    wrong = [name for name, value in stored.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if wrong:
        raise ModelError(f"{where} has weights that are not finite ({wrong[0]}); give an earlier checkpoint of it.")
    return model


def _of_base(name: str) -> str:
    """Name in the base model of a tensor of an adapter's file, which may contain embeddings of the base."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def check_adapter_names(where: str, expected: set[str], stored: set[str]) -> None:
    """Raise ModelError unless an adapter's file has exactly the tensors of the adapter."""
    for names, message in ((expected - stored, "is missing in its file"), (stored - expected, "fits no layer of its base model")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ModelError(f"{where} does not fit: {min(names)}{more} {message}; give the base model that it was trained on.")
