"""Convert model sources to model folders, once: adapters are merged into their base model, GGUF files read by transformers.

The result is an ordinary float32 model folder in the lab's cache, named by a hash of the source files. Training, reference, resume,
branch, what-if and export load this folder like any other.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from lab import home
from lab.policy.checks.arbitrary_row import arbitrary_logps, unexplained_difference

from .adapter_source import adapter_base, check_adapter, is_adapter, tokenizer_place
from .configuration import read_configuration, require_causal
from .files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    INDEX,
    WEIGHTS,
    check_folder,
    local_folder,
)
from .model_error import ModelError, cause, model_errors
from .stored_adapters import with_adapter
from .tokenizer_loading import read_tokenizer
from .weight_loading import check_numbers, check_report, read_weights, reading

CONVERTED = "models-converted"
"""Folder in the cache with one model folder per converted source, named by its key."""
VERSION = 1
"""Part of the hash; increase it when the conversion changes."""
NO_MODEL = ("trainer.safetensors", "trainer.json", ADAPTER_CONFIG, ADAPTER_WEIGHTS)
"""Files in a base model's folder that are not part of the model."""


def is_gguf(source: str) -> bool:
    """Return whether `source` is a GGUF file, or a folder with one and without a model in another format."""
    return gguf_file(source) is not None


def gguf_file(source: str) -> Path | None:
    """Return the GGUF file that `source` is or contains, or None. Raises ModelError for a folder with several."""
    path = Path(source).expanduser()
    if path.is_file():
        with model_errors(f"The file {source}", "check its permissions"), path.open("rb") as file:
            return path if path.suffix == ".gguf" or file.read(4) == b"GGUF" else None
    if not path.is_dir() or (path / ADAPTER_CONFIG).exists() or (path / WEIGHTS).exists() or (path / INDEX).exists():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ModelError(
            f"The folder {source} holds several GGUF files ({', '.join(p.name for p in files[:4])}); give one of them."
        )
    return files[0] if files else None


def is_converted(folder: str) -> bool:
    """Return whether a path is one of a converted model, existing or not."""
    return Path(folder).parent.name == CONVERTED


def models_dir() -> Path:
    """Return the folder of the converted models."""
    return home.cache() / CONVERTED


def loadable(source: str) -> str:
    """Return the folder or hub id to load a source from: an adapter or GGUF file is converted (once), others are returned.

    Raises ModelError where it cannot be converted.
    """
    file = gguf_file(source)
    if file is not None:
        return str(_converted(_key(check_gguf(file)), lambda draft: _convert_gguf(file, draft)))
    if is_adapter(source):
        folder = Path(source).expanduser()
        base = adapter_base(folder, download=True)
        return str(
            _converted(
                _key(folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS, *_content(base)), lambda draft: _merge(folder, base, draft)
            )
        )
    return source


def check_source(source: str) -> str | None:
    """Check a source without reading weights; returns the folder or hub id with the model's weights, or None for a GGUF file.

    Raises ModelError with the cause and what to do.
    """
    if not source.strip():
        raise ModelError("No model is named; give a folder, a GGUF file, or owner/name of a causal language model on the hub.")
    try:
        Path(source).expanduser().exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{source[:100]!r} cannot be the path of a model ({cause(error)}); check it.") from error
    file = gguf_file(source)
    if file is not None:
        check_gguf(file)
        return None
    folder = local_folder(source)
    if folder is None:
        return source
    if is_adapter(source):
        return check_adapter(folder)
    check_folder(folder)
    return str(folder)


# Adapters.


def _merge(folder: Path, base: str, draft: Path) -> None:
    """Write the base model with the adapter merged, in float32."""
    place = loadable(base) if is_adapter(base) or is_gguf(base) else base
    if place == base:
        check_folder(Path(base))
    config = read_configuration(place)
    require_causal(place, config)
    from transformers import AutoModelForCausalLM

    model = with_adapter(read_weights(AutoModelForCausalLM, place, config), folder)
    with model_errors(f"The adapter in {folder}", "merge it with peft, and give the merged model"):
        expected = arbitrary_logps(model)
        untie(model.get_base_model())
        merged = model.merge_and_unload(safe_merge=True)
        head = merged.get_output_embeddings()
        if head is not None and head.weight is not merged.get_input_embeddings().weight:
            _declare_untied(merged)
        merged.save_pretrained(draft)
    read_tokenizer(tokenizer_place(str(folder), place)).save_pretrained(draft)
    _require_same(f"The adapter in {folder}", draft, expected)


def untie(base: Any) -> None:
    """Untie output layer and input embedding where an adapter is on one of them, so that merging does not change the other.

    `base` is the model inside the peft model.
    """
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    inner_head, inner = getattr(head, "base_layer", head), getattr(embedding, "base_layer", embedding)
    shared = getattr(inner_head, "weight", None) is getattr(inner, "weight", False)
    if shared and (inner_head is not head or inner is not embedding):
        inner_head.weight = torch.nn.Parameter(inner_head.weight.detach().clone())
        _declare_untied(base)


def _declare_untied(model: Any) -> None:
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _require_same(subject: str, draft: Path, expected: torch.Tensor) -> None:
    """Raise ModelError unless the converted model has the log-probs of its source."""
    from transformers import AutoModelForCausalLM

    converted = read_weights(AutoModelForCausalLM, str(draft), read_configuration(str(draft)))
    difference = unexplained_difference(converted, expected)
    if difference:
        raise ModelError(
            f"{subject} cannot be converted into a model folder: the result differs from it by {difference:.3g} nats, more than "
            "rounding explains; merge or convert it with peft and transformers, and give the folder."
        )


# GGUF.


def check_gguf(file: Path) -> Path:
    """Raise ModelError unless the beginning of a GGUF file is valid and the package gguf is installed; returns the file."""
    with model_errors(f"The file {file}", "check the file and its permissions"), file.open("rb") as content:
        beginning = content.read(24)
    if beginning.startswith(b"version https://git-lfs"[:24]):
        raise ModelError(
            f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull` in {file.parent}, or download it again."
        )
    if not beginning.startswith(b"GGUF"):
        raise ModelError(f"{file} is no GGUF file (it does not begin with GGUF); download it again.")
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", file.name):
        raise ModelError(f"{file} is one part of a GGUF model in several files; merge them into one (llama-gguf-split --merge).")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"The model {file} is a GGUF file, which needs the package gguf; run `pip install gguf`, or give "
            "a folder with safetensors."
        )
    return file


def _convert_gguf(file: Path, draft: Path) -> None:
    """Write the model that transformers reads from a GGUF file as an ordinary float32 model folder."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    name = {"gguf_file": file.name}
    remedy = "download it again, or give the model as a folder with safetensors; transformers reads some architectures of GGUF only"
    with reading(str(file)), model_errors(f"The GGUF file {file}", remedy):
        config = AutoConfig.from_pretrained(file.parent, **name)
        require_causal(str(file), config)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **name
        )
        quantized, report = loaded  # declared as the model alone
        plain_config = type(quantized.config).from_dict(
            {key: value for key, value in quantized.config.to_dict().items() if key not in ("quantization_config", "_name_or_path")}
        )
        with torch.device("meta"):
            plain = type(quantized)(plain_config)
        state = quantized.state_dict()
        plain.load_state_dict(state, strict=True, assign=True)
        plain.tie_weights()
        check_report(str(file), quantized, report, flags=False)
        check_numbers(str(file), plain)
        plain.generation_config = quantized.generation_config
        plain.save_pretrained(draft)
        _known_tokens(tokenizer, plain.get_input_embeddings().num_embeddings).save_pretrained(draft)
        expected = arbitrary_logps(quantized)
    _require_same(f"The GGUF file {file}", draft, expected)


def _known_tokens(tokenizer: Any, vocabulary: int) -> Any:
    """The tokenizer without tokens that the model has no embedding for.

    transformers adds tokens to those of a GGUF file, and peft would add random embeddings for them where it loads an adapter.
    """
    if len(tokenizer) <= vocabulary:
        return tokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < vocabulary]
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    special = {name: getattr(tokenizer, name) for name in names if (getattr(tokenizer, f"{name}_id") or 0) < vocabulary}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), chat_template=tokenizer.chat_template, **special
    )


# The cache.


def _converted(key: str, write: Any) -> Path:
    """The folder of a key, filled by `write(draft)` if it does not exist; one process converts, others wait."""
    folder = models_dir() / key
    with model_errors(f"The folder {models_dir()}", "make room, or set LAB_CACHE to a folder that can be written"):
        models_dir().mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            if (folder / CONFIG).exists():
                return folder
            draft = models_dir() / f".{key}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            try:
                write(draft)
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return folder


def _content(base: str) -> list[Path]:
    """The files that define a base model."""
    folder = Path(base)
    if is_adapter(base):
        return [folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS, *_content(adapter_base(folder, download=True))]
    return [p for p in sorted(folder.iterdir()) if p.suffix in (".json", ".safetensors", ".gguf") and p.name not in NO_MODEL]


def _key(*files: Path) -> str:
    digest = hashlib.blake2b(f"{VERSION}".encode(), digest_size=10)
    for file in files:
        with model_errors(f"The file {file}", "check the file and its permissions"):
            status = file.stat()
            digest.update(json.dumps([file.name, _hash(file, status.st_size, status.st_mtime_ns)]).encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _hash(file: Path, size: int, modified: int) -> str:
    """Hash of a file's content, cached while its size and modification time stay the same."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
