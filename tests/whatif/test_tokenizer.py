"""The tokenizer of a run: where it comes from, and what is refused where nothing may be downloaded or converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.whatif import tokenizer as module
from lab.whatif import tokenizer_of
from lab.whatif.whatif_error import WhatIfError


def run_from(model: str, folder: Path) -> Any:
    """What `tokenizer_of` reads of a run without a checkpoint."""
    return SimpleNamespace(dir=folder, name="demo", manifest={"config": {"model": model}})


@pytest.fixture
def no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str) -> str:
        raise AssertionError(f"{source} is downloaded or converted")

    monkeypatch.setattr(module, "loadable", refuse)


def test_a_model_folder_is_read_as_it_is(no_conversion: None, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    run = run_from(str(model_folder("llama")), tmp_path)
    assert len(tokenizer_of(run, fetch=False)) == len(tokenizer_of(run)) > 10


@pytest.mark.parametrize("source", ["owner/name", "model.gguf", "gguf", "adapter"])
def test_nothing_is_fetched_where_that_is_not_allowed(no_conversion: None, tmp_path: Path, source: str) -> None:
    if source != "owner/name":
        folder = tmp_path / source.removesuffix(".gguf")
        folder.mkdir()
        (folder / "model.gguf").write_bytes(b"GGUF" + bytes(20))
        if source == "adapter":
            (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/name"}')
        source = str(folder / "model.gguf" if source == "model.gguf" else folder)
    with pytest.raises(WhatIfError, match=r"the run demo would have to be downloaded or converted.*link for editing\.$"):
        tokenizer_of(run_from(source, tmp_path), fetch=False)
    with pytest.raises(AssertionError, match="is downloaded or converted"):
        tokenizer_of(run_from(source, tmp_path))
