"""The generation_config of a published model: kept for those who use the model, never followed when the lab samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "generation_config.json"
IDS = ("eos_token_id", "bos_token_id", "pad_token_id")


def valid_generation_config(source: str) -> dict[str, Any]:
    """Arguments for `from_pretrained` with which a generation_config that transformers refuses is no reason to refuse the model.

    Empty where transformers can read it and its token ids are numbers, or where there is none; else one that holds its valid token
    ids alone, which is also what is saved with the model: transformers would not save the other one.
    """
    from transformers import GenerationConfig
    from transformers.utils import cached_file

    try:
        read = GenerationConfig.from_pretrained(source)
        wrong = [name for name in IDS if not _valid(name, getattr(read, name))]
    except OSError:
        return {}
    except Exception:  # entries of any type may stand there
        wrong = list(IDS)
    if not wrong:
        return {}
    content = json.loads(Path(str(cached_file(source, FILE))).read_text(encoding="utf-8"))
    ids = {name: content[name] for name in IDS if name in content} if isinstance(content, dict) else {}
    return {"generation_config": GenerationConfig(**{name: value for name, value in ids.items() if _valid(name, value)})}


def _valid(name: str, ids: Any) -> bool:
    """Whether an entry holds a token id, nothing, or where a text may end in one of several a list of them."""
    several = ids if isinstance(ids, list) and name == "eos_token_id" else [ids]
    return ids is None or all(type(number) is int and number >= 0 for number in several)
