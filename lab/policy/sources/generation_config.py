"""Read the generation_config of a model; it is saved with the model, but the lab's own sampling ignores it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "generation_config.json"
IDS = ("eos_token_id", "bos_token_id", "pad_token_id")


def valid_generation_config(source: str) -> dict[str, Any]:
    """Return arguments for `from_pretrained` that replace a generation_config which transformers refuses.

    The replacement has the valid token ids only, and is also saved with the model. Empty where transformers can read the file
    and its token ids are numbers, or where there is no file.
    """
    from transformers import GenerationConfig
    from transformers.utils import cached_file

    try:
        read = GenerationConfig.from_pretrained(source)
        wrong = [name for name in IDS if not _valid(name, getattr(read, name))]
    except OSError:
        return {}
    except Exception:  # entries may have any type
        wrong = list(IDS)
    if not wrong:
        return {}
    content = json.loads(Path(str(cached_file(source, FILE))).read_text(encoding="utf-8"))
    ids = {name: content[name] for name in IDS if name in content} if isinstance(content, dict) else {}
    return {"generation_config": GenerationConfig(**{name: value for name, value in ids.items() if _valid(name, value)})}


def _valid(name: str, ids: Any) -> bool:
    """Whether an entry is a token id, None, or (for the end of sequence) a list of token ids."""
    several = ids if isinstance(ids, list) and name == "eos_token_id" else [ids]
    return ids is None or all(type(number) is int and number >= 0 for number in several)
