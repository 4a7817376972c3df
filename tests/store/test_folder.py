"""The folder of a run and the format of its files."""

from __future__ import annotations

import json

import pytest

import lab
from lab.store import RunError, read_manifest
from lab.store.folder import RUN_FORMAT


@pytest.mark.parametrize("format", [None, RUN_FORMAT - 1, RUN_FORMAT + 1])
def test_a_run_of_another_format_is_refused_in_one_sentence_and_left_out_of_the_list(rows, model_folder, lab_home, format):
    run = lab.train(
        "dpo", rows, model_folder("llama"), background=False, steps=2, batch_size=4, save_every=0, device="cpu", eval_prompts=0
    )
    manifest = read_manifest(run.dir)
    assert manifest.pop("format") == RUN_FORMAT
    if format is not None:
        manifest["format"] = format
    (run.dir / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(
        RunError, match=rf"format {'none' if format is None else format}.*reads only {RUN_FORMAT}; open it with the version"
    ) as refused:
        lab.open_run(run.dir)
    assert str(refused.value).count(". ") == 0
    assert lab.runs() == []


def test_a_manifest_that_is_no_object_is_damaged(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunError, match="is damaged"):
        read_manifest(tmp_path)
