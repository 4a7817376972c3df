"""The tokenizer of a run, for showing token values without loading the model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.policy.sources.adapter_source import is_adapter, tokenizer_place
from lab.policy.sources.converted import is_gguf, loadable
from lab.policy.sources.model_error import ModelError
from lab.policy.sources.tokenizer_loading import has_tokenizer, read_tokenizer
from lab.store import list_checkpoints
from lab.world import model_source

from .whatif_error import WhatIfError

if TYPE_CHECKING:
    from lab.run.handle import Run


def tokenizer_of(run: Run, *, fetch: bool = True) -> Any:
    """Return a run's tokenizer, from a checkpoint or from the model that it begins with. The latest eight are kept in memory.

    Args:
        run: The run.
        fetch: Whether the model that it begins with may be downloaded or converted for it, where there is no checkpoint.

    Raises:
        WhatIfError: It cannot be loaded, or not without a download or conversion that is not allowed.
    """
    saved = list_checkpoints(run.dir)
    source = str(saved[0]) if saved else str(run.manifest["config"]["model"])
    try:
        return _load(source if saved else _place(run, model_source(source), fetch))
    except ModelError as error:
        raise WhatIfError(f"The tokenizer of the run {run.name} cannot be loaded: {error}") from error


def _place(run: Run, source: str, fetch: bool) -> str:
    folder = Path(source).expanduser()
    own = is_adapter(source) and has_tokenizer(folder)
    if own or (folder.is_dir() and not is_adapter(source) and not is_gguf(source)):
        return str(folder)
    if not fetch:
        raise WhatIfError(
            f"The tokenizer of the run {run.name} would have to be downloaded or converted, which this page must not do; wait for "
            "the run's first checkpoint, or use the link for editing."
        )
    return tokenizer_place(source, loadable(source))


@lru_cache(maxsize=8)
def _load(source: str) -> Any:
    return read_tokenizer(source)
