"""The generation_config of a published model: kept for those who use the model, never followed when the lab samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "generation_config.json"
IDS = ("eos_token_id", "bos_token_id", "pad_token_id")


def tolerated(source: str) -> dict[str, Any]:
    """Arguments for `from_pretrained` with which a generation_config that transformers refuses is no reason to refuse the model.

    Empty where transformers can read it, or where there is none; else one that holds its token ids alone, which is also what is
    saved with the model: transformers would not save the other one.
    """
    from transformers import GenerationConfig
    from transformers.utils import cached_file

    try:
        GenerationConfig.from_pretrained(source)
    except OSError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        content = json.loads(Path(str(cached_file(source, FILE))).read_text(encoding="utf-8"))
        return {"generation_config": GenerationConfig(**{name: content[name] for name in IDS if name in content})}
    return {}
