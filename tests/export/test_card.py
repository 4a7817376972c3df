"""The model card says what the run recorded, and no text in it can pass for Markdown."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard

import lab
from lab.export import card
from lab.export.source import Base, Source
from lab.store import StoreWriter


def card_of(folder):
    loaded = ModelCard.load(folder / "README.md")
    return loaded.data.to_dict(), loaded.text


def test_the_card_of_an_adapter(trained, tmp_path, model_folder):
    run = trained({"name": "spo", "base": {"name": "sgdpo", "r1": 0.7}}, lora_rank=2, seed=5, name="my run")
    head, text = card_of(lab.export_run(run, tmp_path / "out"))
    assert head["library_name"] == "peft"
    assert head["pipeline_tag"] == "text-generation"
    assert head["tags"] == ["preference-optimization", "spo", "lora"]
    assert "base_model" not in head  # it is a folder of this machine, and the hub takes ids only
    assert str(model_folder("llama").resolve()) in text
    assert "base_model_name_or_path" in text
    for expected in (
        "# my run",
        "arXiv 2409.17791",
        "arXiv 2505.12435",
        "| `r1` | `0.7` |",
        "| `seed` | `5` |",
        "| `lora_rank` | `2` |",
        "version 0: 50 pairs, as they were imported",
        "Checkpoint of step 4 of 4; the run is finished",
        "degree head was used in training only",
        "AutoPeftModelForCausalLM",
        "torch 2.",
    ):
        assert expected in text, expected
    frame = run.scalars(["loss", "rewards/margins"])
    assert f"| `loss` | {frame['loss'].mean():.4g} |" in text
    assert f"| `rewards/margins` | {frame['rewards/margins'].mean():.4g} |" in text


def test_the_card_of_a_base_from_the_hub(trained, tmp_path):
    run = trained()
    source = Source(run.checkpoints()[-1], 4, True, Base("owner/name", "owner/name"), run.config, 0)
    for what, relation in (("adapter", "adapter"), ("merged", "finetune")):
        head = ModelCard(card.write(run, source, what, None, None)).data.to_dict()
        assert (head["base_model"], head["base_model_relation"]) == ("owner/name", relation)
    assert "a folder on the machine" not in card.write(run, source, "adapter", None, None)


def test_results_before_and_after_with_their_intervals(trained, tmp_path):
    run = trained()
    store = StoreWriter(run.dir)
    for step, reward in ((0, 0.31), (2, 0.5), (4, 0.62)):
        found = {"eval/oracle_reward": reward, "eval/valid": 0.8}
        store.event(
            step, "evaluation", **found, reward_low=reward - 0.05, reward_high=reward + 0.05, samples=[{"answer": "secret"}]
        )
    store.event(3, "change", settings={"beta": [0.1, 0.5]})
    store.event(3, "edit", version=7, computed=2)
    store.close()
    _, text = card_of(lab.export_run(run, tmp_path / "last"))
    assert "| held-out | step 0 | step 4 |" in text
    assert "| `eval/oracle_reward` | 0.31 [0.26, 0.36] | 0.62 [0.57, 0.67] |" in text
    assert "| `eval/valid` | 0.8 | 0.8 |" in text
    assert "95 % intervals" in text
    assert "| 3 | `beta` | `0.1` | `0.5` |\n| 3 | pairs |  | version 7 |" in text
    _, text = card_of(lab.export_run(run, tmp_path / "before", step=2))
    assert "| held-out | step 0 | step 2 |" in text
    assert "Changed during the run" not in text
    assert "mean of steps 1 to 2" in text


def test_the_card_tells_the_settings_in_use_at_the_checkpoint(trained, tmp_path):
    run = trained()
    metadata = run.checkpoints()[-1] / "trainer.json"
    config = run.config.model_copy(update={"objective": run.config.objective.replace(beta=0.4)}).model_dump(mode="json")
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"settings": config, "pairs_version": 0}))
    _, text = card_of(lab.export_run(run, tmp_path / "last", trl_script=True))
    assert "| `beta` | `0.4` |" in text
    assert "beta=0.4," in (tmp_path / "last" / "train_trl.py").read_text()
    _, text = card_of(lab.export_run(run, tmp_path / "before", step=2))
    assert "| `beta` | `0.1` |" in text


def test_edited_pairs_and_a_store_that_is_gone(rows, trained, tmp_path):
    pairs = lab.open_pairs(rows)
    pairs.edit(pairs.ids()[0], chosen="Another answer altogether.")
    pairs.drop(pairs.ids()[1])
    run = trained(pairs=pairs)
    pairs.edit(pairs.ids()[0], chosen="An answer that came after the run.")
    _, text = card_of(lab.export_run(run, tmp_path / "out"))
    assert "version 2: 49 pairs, 1 of them edited since they were imported" in text
    pairs.path.unlink()
    _, text = card_of(lab.export_run(run, tmp_path / "gone"))
    assert "Pairs of version 2; their store could not be read" in text


def test_nothing_is_filled_in(trained, tmp_path):
    run = trained()
    manifest = json.loads((run.dir / "run.json").read_text())
    del manifest["versions"]
    (run.dir / "run.json").write_text(json.dumps(manifest))
    head, text = card_of(lab.export_run(run, tmp_path / "out"))
    assert head.keys() == {"library_name", "model_name", "pipeline_tag", "tags"}
    assert "| held-out | step" not in text
    assert "when this was exported" in text


@pytest.mark.parametrize("name", ["---\nlicense: mit", "![](http://example.invalid/x) <b>|`*", "a: [b", "# x $y$", "a\x00b\u2028c"])
def test_a_hostile_name_stays_a_name(name, trained, tmp_path):
    head, text = card_of(lab.export_run(trained(name=name), tmp_path / "out"))
    assert head["model_name"] == name
    assert "license" not in head
    assert "![]" not in text
    assert "<b>" not in text
