"""Twins in real runs: the same start and batches under two objectives; they know each other, whatever happens to them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lab
from lab.cli import main
from lab.comparison import Comparison
from lab.run.config import ConfigError
from lab.store import RunError, list_checkpoints, read_twins
from tests.training.run_comparison import asking, assert_same, resumed

pytestmark = pytest.mark.extended

SETTINGS = {"steps": 5, "batch_size": 4, "learning_rate": 1e-3, "save_every": 1, "keep_checkpoints": 100, "device": "cpu"}
QUIET = {"evaluate": False, "probe_budget": 0.0}


def twins(objectives, rows, model, **more):
    return lab.train_twins(objectives, rows, model, background=False, **SETTINGS | QUIET | more)


def batches(run):
    return [sorted(run.reader.pairs.batch(step)["pair"]) for step in range(1, run.step + 1)]


def test_the_same_start_and_the_same_batches_under_two_objectives(rows, model_folder):
    one, other = twins(("dpo", {"name": "sgdpo", "r1": 0.5}), rows, model_folder("llama"), lora_rank=2, warmup_ratio=0.4)
    assert (one.state, other.state) == ("finished", "finished"), (one.error, other.error)
    assert (one.config.objective.name, other.config.objective.name) == ("dpo", "sgdpo")
    assert batches(one) == batches(other)
    assert len({tuple(batch) for batch in batches(one)}) == 5, "the batches are not all the same one"
    # The schedule begins at a rate of 0, so the checkpoint of step 1 holds the weights that both began with.
    starts = [load_file(list_checkpoints(run.dir)[0] / "adapter_model.safetensors") for run in (one, other)]
    assert starts[0].keys() == starts[1].keys()
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    assert any(value.abs().max() > 0 for value in starts[0].values())
    first = [run.reader.pairs.batch(1).sort_values("pair") for run in (one, other)]
    for side in ("chosen", "rejected"):
        assert np.array_equal(first[0][f"logps_{side}"], first[1][f"logps_{side}"])
    assert one.scalars(["loss"]).loc[1, "loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert other.scalars(["loss"]).loc[1, "loss"] == pytest.approx(other.config.objective.first_step_loss(), abs=1e-5)
    assert not np.array_equal(one.scalars(["loss"]).loc[3:], other.scalars(["loss"]).loc[3:]), "two objectives"
    both = lab.compare([one, other])
    assert both.are_twins()
    same = both.batches()
    assert (same.checked, same.same, same.start) == (5, True, 0.0)
    settings = both.settings()
    assert {path.split(".")[0] for path in settings[~settings["same"]].index} == {"objective"}
    assert len(both.pairs("log_ratio_chosen")) == len({pair for batch in batches(one) for pair in batch})


def test_they_know_each_other_after_a_reload_a_resume_and_a_move(rows, model_folder, lab_home):
    folders = [lab_home / "runs" / name for name in ("first", "second")]
    made = lab.twins.make_twins(("dpo", "ipo"), rows, model_folder("llama"), run_dirs=folders, **SETTINGS | QUIET)
    whole = twins(("dpo", "ipo"), rows, model_folder("llama"))
    first = lab.api.start_run(made[0], background=False, on_step=asking(made[0], 2, "stop"))
    second = lab.api.start_run(made[1], background=False)
    assert first.state == "stopped"
    assert [twin.dir.name for twin in lab.open_run(made[0]).twins] == ["second"]
    again = resumed(made[0])
    assert [twin.dir.name for twin in again.twins] == ["second"]
    assert_same(again, whole[0])
    assert_same(second, whole[1])
    assert Comparison([again, second]).batches().same
    moved = lab_home / "elsewhere"
    moved.mkdir()
    for folder in folders:
        shutil.move(folder, moved / folder.name)
    assert [twin.name for twin in read_twins(moved / "first")] == ["second"]
    shutil.rmtree(moved / "second")
    assert read_twins(moved / "first") == []
    (moved / "first" / "twins.json").write_text("{")
    with pytest.raises(RunError, match=r"twins.json is damaged"):
        read_twins(moved / "first")


def test_twins_from_a_checkpoint_and_another_twin_of_a_branch(rows, model_folder):
    parent = lab.train("dpo", rows[:12], model_folder("llama"), background=False, **SETTINGS | QUIET)
    one, other = lab.train_twins(("dpo", "sgdpo"), branch_from=parent, at=2, background=False)
    assert_same(one, parent, after=2)
    both = lab.compare([one, other])
    same = both.batches()
    assert (same.checked, same.same, same.start) == (3, True, 0.0)
    third = lab.train_twin(one, "ipo", background=False)
    assert third.manifest["branch"]["step"] == 2
    assert lab.compare([third, other]).batches().same
    assert [len(run.twins) for run in (one, other, third)] == [2, 2, 2]
    assert both.curve(0, "loss", "pairs").index.tolist() == [12, 16, 20]


def test_twins_like_a_run_have_its_settings_and_the_pairs_of_its_day(rows, model_folder):
    store = lab.open_pairs(rows[:12])
    parent = lab.train("dpo", store, model_folder("llama"), background=False, **SETTINGS | QUIET | {"seed": 7, "steps": 2})
    store.drop(store.ids()[0])
    one, other = lab.train_twins(("ipo", "sgdpo"), like=parent, background=False, steps=3)
    for run in (one, other):
        assert (run.config.seed, run.config.learning_rate, run.config.steps, run.pairs_version) == (7, 1e-3, 3, 0)
        assert batches(run)[:2] == batches(parent)
    twin = lab.train_twin(parent, "sgdpo", background=False)
    assert batches(twin) == batches(parent)
    assert [run.dir for run in parent.twins] == [twin.dir.resolve()]


def test_they_train_one_after_the_other_unless_told_otherwise(rows, model_folder):
    runs = lab.train_twins(("dpo", "sgdpo"), rows, model_folder("llama"), **SETTINGS | QUIET)
    for run in runs:
        assert run.wait(120) == "finished", run.error
    ends = [run.events("state")["time"].iloc[-1] for run in runs]
    begins = [run.events("state").query("step == 0")["time"].iloc[0] for run in runs]
    assert ends[0] <= begins[1], "the second begins when the first is done"
    assert ends[0] < ends[1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"objectives": ("dpo",)}, "two objectives"),
        ({"objectives": ("dpo", "dpo")}, "would be identical runs"),
        ({"objectives": ("dpo", "nope")}, "no objective 'nope'"),
        ({"stepz": 3}, "no setting 'stepz'"),
        ({"at": 3}, "give branch_from"),
        ({"run_dirs": ["a"]}, "a folder for each"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(given, sentence, rows, model_folder, lab_home):
    with pytest.raises(ConfigError, match=sentence):
        lab.train_twins(pairs=rows, model=model_folder("llama"), **given)
    assert not (lab_home / "runs").exists()


def test_from_the_command_line(rows, model_folder, tmp_path, capsys):
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = ["train", "--objective", "dpo", "--pairs", str(data), "--model", str(model_folder("llama")), "--steps", "2"]
    folder = tmp_path / "run"
    more = ["--evaluate", "no", "--batch-size", "4", "--device", "cpu", "--run-dir", str(folder), "--json"]
    assert main([*common, *more, "--twin", "sgdpo", "--twin-set", "r1=0.5"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("run") or line["step"] for line in lines] == ["run", 1, 2, "run-twin", 1, 2]
    one, other = lab.open_run(folder), lab.open_run(Path(f"{folder}-twin"))
    assert other.config.objective.r1 == 0.5
    assert one.config.steps == other.config.steps == 2
    assert [twin.dir for twin in other.twins] == [folder.resolve()]
    assert main(["runs", "--json"]) == 0
    twins_of = {row["run"].split("-")[0]: row["twins"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert all(twins_of.values())
    for wrong in (["--twin-set", "r1=0.5"], ["--twin", "dpo"], ["--twin", "sgdpo", "--dry-run"]):
        assert main([*common, *wrong]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
