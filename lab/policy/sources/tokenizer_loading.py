"""Load a model's tokenizer and check that its end-of-sequence token is in the model's vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import read_json
from .model_error import ModelError, model_errors

TOKENIZER = "tokenizer.json"


def read_tokenizer(source: str) -> Any:
    """Load the tokenizer of a folder or hub id.

    Raises ModelError for a missing or damaged tokenizer, one of a newer version, or one with code outside transformers.
    """
    from transformers import AutoTokenizer

    folder = Path(source)
    local = folder.is_dir()
    if local:
        for name in ("tokenizer_config.json", "special_tokens_map.json", TOKENIZER):
            if (folder / name).exists():
                content = read_json(folder / name)
                if name == "tokenizer_config.json" and (content.get("auto_map") or {}).get("AutoTokenizer"):
                    raise ModelError(
                        f"The tokenizer in {source} needs code of its own (auto_map in {name}), which the lab does not run; save "
                        "one of transformers' own classes (tokenizer.json) beside the model."
                    )
        if not has_tokenizer(folder):
            raise ModelError(
                f"The folder {source} holds no tokenizer ({TOKENIZER} is missing); copy the tokenizer files of the model into it, "
                "or call tokenizer.save_pretrained on it."
            )
    with model_errors(f"The tokenizer {'in' if local else 'of'} {source}", _remedy(folder)):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def check_special_tokens(source: str, tokenizer: Any, vocabulary: int) -> None:
    """Set special tokens that the model does not know to ones that it does; raise ModelError without an end-of-sequence token."""
    eos = tokenizer.eos_token_id
    if eos is None or eos >= vocabulary:
        raise ModelError(
            f"The tokenizer of {source} has no end-of-sequence token that the model knows, so no answer can end; "
            "set eos_token in its configuration, or give a causal language model if this is another kind (a masked one has no end)."
        )
    # Some tokenizer classes add a padding token with an id beyond the model's vocabulary.
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= vocabulary:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.bos_token_id is not None and tokenizer.bos_token_id >= vocabulary:
        tokenizer.bos_token = None


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has a tokenizer's file; without one, transformers would make an empty tokenizer of some kinds."""
    return bool(tokenizer_files(folder))


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a folder that contain a tokenizer's vocabulary."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    names = {TOKENIZER, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json", "tiktoken.model"}
    model_type = read_json(folder / "config.json").get("model_type") if (folder / "config.json").exists() else None
    named = TOKENIZER_MAPPING_NAMES.get(str(model_type))
    kind = tokenizer_class_from_name(named) if isinstance(named, str) else None
    names |= set((getattr(kind, "vocab_files_names", None) or {}).values())
    return [folder / name for name in sorted(names) if (folder / name).exists()]


def _remedy(folder: Path) -> str:
    import tokenizers
    import transformers

    if (folder / TOKENIZER).exists():
        return (
            f"its {TOKENIZER} is damaged or was written by a newer version than tokenizers {tokenizers.__version__}: download it "
            "again, or update tokenizers and transformers"
        )
    return (
        f"save the tokenizer again with transformers {transformers.__version__}, so that there is a {TOKENIZER}, or install "
        "sentencepiece or tiktoken, whichever it needs"
    )
