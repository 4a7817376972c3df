"""The tokenizer of a run, for showing token values without loading the model."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lab import home
from lab.policy.sources.adapter_source import tokenizer_place
from lab.policy.sources.converted import loadable
from lab.policy.sources.model_error import ModelError
from lab.policy.sources.tokenizer_loading import read_tokenizer
from lab.store import list_checkpoints

from .whatif_error import WhatIfError

if TYPE_CHECKING:
    from lab.run.handle import Run

WORLD = "world"


def tokenizer_of(run: Run) -> Any:
    """Return a run's tokenizer, from a checkpoint or from the model that it begins with. The latest eight are kept in memory.

    Raises WhatIfError if it cannot be loaded.
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
