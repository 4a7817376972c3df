"""The tokenizer of a model: loaded from files that are there, with an end of sequence that the model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import read_json
from .model_error import ModelError, model_errors

TOKENIZER = "tokenizer.json"


def read_tokenizer(source: str) -> Any:
    """The tokenizer in a folder or of a hub id. Raises ModelError in one sentence: none, damaged, newer, with code of its own."""
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
    """Every answer needs an end, and padding an id that the model knows. Raises ModelError where there is no end."""
    eos = tokenizer.eos_token_id
    if eos is None or eos >= vocabulary:
        raise ModelError(
            f"The tokenizer of {source} has no end-of-sequence token that the model knows, so no answer can end; "
            "set eos_token in its configuration, or give a causal language model if this is another kind (a masked one has no end)."
        )
    # Some tokenizer classes bring a padding token of their own, with an id behind the model's last row.
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= vocabulary:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.bos_token_id is not None and tokenizer.bos_token_id >= vocabulary:
        tokenizer.bos_token = None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the file of any kind of tokenizer. transformers makes an empty one of some kinds where none is."""
    return bool(tokenizer_files(folder))


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder that hold a tokenizer's vocabulary."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    names = {TOKENIZER, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json", "tiktoken.model"}
    model_type = read_json(folder / "config.json").get("model_type") if (folder / "config.json").exists() else None
    named = TOKENIZER_MAPPING_NAMES.get(model_type)
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
