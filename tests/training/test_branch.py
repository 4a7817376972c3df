"""Branches: new runs from another run's checkpoint, with another objective or other settings."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

import lab
from lab.cli import main
from lab.run.config import ConfigError
from lab.store.folder import read_metadata
from tests.training.run_comparison import asking, assert_same, interrupted, resumed

pytestmark = pytest.mark.extended

SETTINGS = {
    "steps": 6,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 1,
    "keep_checkpoints": 100,
    "device": "cpu",
    "eval_tokens": 8,
}


def train(objective, rows, model, folder, **more):
    return lab.train(objective, rows, model, run_dir=folder, background=False, **SETTINGS | more)


@pytest.mark.parametrize(
    ("objective", "extra"),
    [("dpo", {}), ("alpha_dpo", {"lora_rank": 2}), ({"name": "spo", "base": "sgdpo"}, {})],
    ids=["dpo", "alpha_dpo", "spo"],
)
def test_a_branch_that_changes_nothing_equals_its_parent(objective, extra, rows, model_folder, tmp_path):
    parent = train(objective, rows[:10], model_folder("llama"), tmp_path / "parent", **extra)
    branch = lab.train(branch_from=parent, at=2, background=False)
    assert branch.manifest["branch"]["step"] == 2
    assert branch.manifest["branch"]["run"] == str(parent.dir.resolve())
    assert branch.scalars(["loss"]).index.tolist() == [3, 4, 5, 6]
    assert branch.events("branched")["step"].tolist() == [2]
    assert_same(branch, parent, after=2)


def test_a_branch_has_the_edits_and_settings_of_its_checkpoint(rows, model_folder, tmp_path):
    folder = tmp_path / "parent"
    pairs = lab.open_pairs(rows[:10])

    def on_step(step, scalars):
        if step == 2:
            pairs.drop(pairs.ids()[3])
            lab.open_run(folder).take_edits()
            lab.open_run(folder).set(beta=0.4)

    parent = train("dpo", pairs, model_folder("llama"), folder, on_step=on_step)
    branch = lab.train(branch_from=folder, at=3, background=False)
    assert branch.config.objective.beta == 0.4
    assert branch.pairs_version == 1
    assert_same(branch, parent, after=3)
    before = lab.train(branch_from=folder, at=2, background=False)  # saved before the changes that were made after step 2
    assert before.config.objective.beta == 0.1
    assert before.pairs_version == 0


def test_a_branch_with_another_objective(rows, model_folder, tmp_path):
    parent = train("dpo", rows, model_folder("llama"), tmp_path / "parent")
    branch = lab.train({"name": "spo", "base": "alpha_dpo"}, branch_from=parent, at=3, background=False, steps=5)
    assert branch.state == "finished", branch.error
    assert branch.config.objective.name == "spo"
    assert branch.step == 5
    # The reference stays the model as loaded: the log-ratios start at the parent's values, not at 0.
    assert branch.reader.pairs.batch(4)["log_ratio_chosen"].abs().max() > 1e-4
    ours, theirs = branch.reader.pairs.batch(4), parent.reader.pairs.batch(4)
    assert ours["logps_chosen"].to_numpy() == pytest.approx(theirs["logps_chosen"].to_numpy(), abs=1e-5)
    assert ours["log_ratio_chosen"].to_numpy() == pytest.approx(theirs["log_ratio_chosen"].to_numpy(), abs=1e-5)


def test_branches_between_objectives_with_and_without_state(rows, model_folder, tmp_path):
    parents = [train(name, rows[:6], model_folder("llama"), tmp_path / name, steps=1) for name in ("bco_pair", "alpha_dpo", "dpo")]
    for parent, name in zip(parents, ("alpha_dpo", "bco_pair", {"name": "alpha_dpo", "normalize": "dataset"})):
        branch = lab.train(name, branch_from=parent, background=False, steps=3)
        assert branch.state == "finished", branch.error


def test_a_branch_with_a_fresh_optimizer(rows, model_folder, tmp_path):
    parent = train("dpo", rows, model_folder("llama"), tmp_path / "parent", steps=3)
    for keep in (True, False):
        branch = lab.train(branch_from=parent, background=False, steps=4, keep_optimizer=keep)
        slots = load_file(branch.checkpoints()[-1] / "trainer.safetensors")
        counters = {float(value) for name, value in slots.items() if name.startswith("optimizer.step")}
        assert counters == ({4.0} if keep else {1.0})


def test_a_branch_does_not_need_its_parent(rows, model_folder, tmp_path):
    parent = train("dpo", rows, model_folder("llama"), tmp_path / "parent")
    folder = tmp_path / "branch"
    ask = asking(folder, 4, "stop")
    branch = lab.train("sgdpo", branch_from=parent, at=3, run_dir=folder, background=False, on_step=ask, save_every=0)
    assert branch.state == "stopped"
    shutil.rmtree(branch.checkpoints()[-1])  # as if it had been killed before
    kept = interrupted(parent, 6, tmp_path / "kept")
    parent.delete()
    again = resumed(folder)
    assert again.state == "finished", again.error
    assert again.events("resumed")["step"].tolist() == [3]
    whole = lab.train("sgdpo", branch_from=kept, at=3, background=False, save_every=0)
    assert_same(again, whole, after=3)


def test_a_branch_with_other_pairs(rows, model_folder, tmp_path):
    parent = train("dpo", rows[:10], model_folder("llama"), tmp_path / "parent")
    branch = lab.train(pairs=rows[20:40], branch_from=parent, at=3, background=False)
    assert branch.state == "finished", branch.error
    assert set(branch.pairs()["pair"]).isdisjoint(parent.pairs()["pair"])


def test_a_branch_of_a_branch(rows, model_folder, tmp_path):
    parent = train("dpo", rows[:10], model_folder("llama"), tmp_path / "parent")
    first = lab.train("sgdpo", branch_from=parent, at=2, background=False, save_every=0)
    second = lab.train("dpo", branch_from=first, at=2, background=False, save_every=1)
    start = load_file(second.dir / "start" / "model.safetensors")
    assert all(torch.equal(value, start[name]) for name, value in load_file(parent.checkpoints()[1] / "model.safetensors").items())
    assert second.state == "finished"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"at": 17}, r"keeps no checkpoint of step 17; the nearest is that of step 2 \(kept: 1, 2\)"),
        ({}, "give steps, more than 2"),
        ({"steps": 9, "lora_rank": 4}, "lora_rank stays 0"),
        ({"steps": 9, "model": "world"}, "model stays"),
        ({"steps": 9, "seed": 1}, "keeps its parent's seed, 0: the seed chooses the prompts that are never trained on"),
        ({"steps": 9, "held_out": 0.2}, "keeps its parent's held_out, 0.05: with another share it would be evaluated on"),
        ({"steps": 9, "held_out": 0}, "keeps its parent's held_out, 0.05"),
        ({"steps": 9, "objective": "nope"}, "no objective 'nope'"),
        ({"steps": 9, "stepz": 1}, "no setting 'stepz'"),
    ],
)
def test_settings_that_a_branch_cannot_have(given, sentence, rows, model_folder, tmp_path):
    parent = train("dpo", rows, model_folder("llama"), tmp_path / "parent", steps=2)
    with pytest.raises(ConfigError, match=sentence):
        lab.train(branch_from=parent, run_dir=tmp_path / "branch", **given)
    assert not (tmp_path / "branch").exists()


def test_no_branch_from_a_run_without_a_checkpoint(rows, model_folder, tmp_path):
    parent = train("dpo", rows, model_folder("llama"), tmp_path / "parent", steps=1)
    shutil.rmtree(parent.dir / "checkpoints")
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        lab.train(branch_from=parent, steps=5)


def test_branch_from_the_command_line(rows, model_folder, tmp_path, capsys):
    parent = train({"name": "sgdpo", "r1": 0.7}, rows, model_folder("llama"), tmp_path / "parent", steps=3)
    folder = tmp_path / "branch"
    arguments = ["train", "--branch", f"{parent.dir}@2", "--set", "beta=0.3", "--steps", "4", "--run-dir", str(folder)]
    assert main([*arguments, "--fresh-optimizer"]) == 0
    branch = lab.open_run(folder)
    assert (branch.config.objective.beta, branch.config.objective.r1, branch.step) == (0.3, 0.7, 4)
    assert branch.manifest["branch"]["keep_optimizer"] is False
    assert read_metadata(folder / "start")["step"] == 2
    assert main(["train", "--branch", str(parent.dir), "--objective", "dpo", "--steps", "4"]) == 0
    capsys.readouterr()
    for wrong in (["--branch", "nothing"], ["--branch", f"{parent.dir}@9"], ["--fresh-optimizer", "--objective", "dpo"]):
        assert main(["train", *wrong]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_branch_from_the_start_of_a_branch_has_that_branchs_settings(rows, model_folder, tmp_path):
    parent = train("dpo", rows[:10], model_folder("llama"), tmp_path / "parent")
    other = lab.train("ipo", rows[:6], branch_from=parent, at=4, background=False)
    again = lab.train(branch_from=other, at=4, background=False)
    assert again.config.objective.name == "ipo"
    assert again.config.pairs == other.config.pairs
    assert again.manifest["pairs_store"] == other.manifest["pairs_store"]
    assert_same(again, other, after=4)


def test_a_refused_branch_leaves_no_folder(rows, model_folder, tmp_path):
    parent = train("dpo", rows[:10], model_folder("llama"), tmp_path / "parent")
    with pytest.raises(ConfigError, match="nonsense"):
        lab.train(branch_from=parent, at=2, trackers="nonsense", run_dir=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="branch_from"):
        lab.train("dpo", rows[:10], model_folder("llama"), at=2)
    with pytest.raises(ConfigError, match="nothing else"):
        lab.train(pairs=rows, run_dir=parent.dir, resume=True)
    assert main(["train", "--branch", str(parent.dir), "--dry-run"]) == 1


def test_a_branch_is_not_evaluated_on_prompts_its_parent_trained_on(rows, model_folder, tmp_path):
    parent = train("dpo", rows, model_folder("llama"), tmp_path / "parent", held_out=0.2, seed=3, steps=30, save_every=30)
    branch = lab.train("ipo", branch_from=parent, background=False, steps=31)
    assert not set(branch.held_out()["pair"]) & set(parent.pairs()["pair"])
    assert set(branch.held_out()["pair"]) == set(parent.held_out()["pair"])
    with pytest.raises(ConfigError, match="parent's seed, 3"):  # also where another set may hold the same prompts
        lab.train(branch_from=parent, pairs=rows[:40], steps=31, seed=4)
    blind = lab.train(branch_from=parent, background=False, steps=31, evaluate=False)  # trains on everything
    with pytest.raises(ConfigError, match=r"held_out, 0 \(it had no evaluations and trained on all pairs\).*give held_out = 0"):
        lab.train(branch_from=blind, steps=32, evaluate=True)
    assert lab.train(branch_from=blind, background=False, steps=32, evaluate=True, held_out=0).state == "finished"


def test_twins_from_a_checkpoint_keep_its_seed(rows, model_folder, tmp_path):
    parent = train("dpo", rows[:10], model_folder("llama"), tmp_path / "parent", steps=2)
    with pytest.raises(ConfigError, match="keeps its parent's seed"):
        lab.train_twins(("dpo", "sgdpo"), branch_from=parent, seed=1, steps=4)
    assert len(lab.runs()) == 1
