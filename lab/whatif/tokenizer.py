"""The tokenizer of a run, for pages that show token values without opening the model."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lab import home
from lab.policy.sources import ModelError, loadable, read_tokenizer
from lab.policy.sources.adapter_source import tokenizer_place
from lab.store import list_checkpoints

from .errors import WhatIfError

if TYPE_CHECKING:
    from lab.run.handle import Run

WORLD = "world"


def tokenizer_of(run: Run) -> Any:
    """The tokenizer that a run reads its pairs with: of a checkpoint, or of the model it begins with. The latest stay in memory.

    Raises WhatIfError where it cannot be loaded any more.
    """
    saved = list_checkpoints(run.dir)
    source = str(saved[0]) if saved else str(run.manifest["config"]["model"])
    if source == WORLD:
        from lab.world import ensure

        source = str(ensure(cache=home.cache()).model_dir)
    try:
        return _load(source if saved else tokenizer_place(source, loadable(source)))
    except ModelError as error:
        raise WhatIfError(f"The tokenizer of the run {run.name} cannot be loaded: {error}") from error


@lru_cache(maxsize=8)
def _load(source: str) -> Any:
    return read_tokenizer(source)
