"""The tokenizer of a run, for pages that show token values without opening the model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import home
from lab.monitor import list_checkpoints
from lab.policy import ModelError

from .errors import WhatIfError

if TYPE_CHECKING:
    from lab.run import Run

WORLD = "world"


def tokenizer_of(run: Run) -> Any:
    """The tokenizer that a run reads its pairs with: of a checkpoint, or of the model it begins with. The latest stay in memory.

    Raises WhatIfError where it cannot be loaded any more.
    """
    saved = list_checkpoints(run.dir)
    source = str(saved[0]) if saved else str(run.about["config"]["model"])
    if source == WORLD:
        from lab.world import ensure

        source = str(ensure(cache=home.cache()).model_dir)
    try:
        return _load(source)
    except (OSError, ValueError, ModelError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WhatIfError(f"The tokenizer of the run {run.name} cannot be loaded from {Path(source)}: {reason}") from error


@lru_cache(maxsize=8)
def _load(source: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
