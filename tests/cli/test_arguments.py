"""Flags of the command line: no abbreviations, errors in one line, suggestions, and errors before heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import lab
from lab import home
from lab.cli import main
from lab.cli.train import note_single_process
from lab.run.config import TrainConfig
from lab.store import StoreWriter
from lab.training.run_folder import create_run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--objectiv", "dpo"], "no argument '--objectiv' here. Did you mean '--objective'?"),
        (["train", "--objective", "dpo", "--no-evaluate"], "Did you mean '--evaluate false'?"),
        (["train", "--objective", "dpo", "--batch_size", "4"], "Did you mean '--batch-size'?"),
        (["show"], "required: RUN"),
        (["show", "run", "--stop", "--pause"], "not allowed with"),
        (["trian"], "There is no command 'trian'; choose one of train, runs"),
        (["trian"], "Did you mean 'train'?"),
        (["runs", "--jsn"], "Did you mean '--json'?"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert lab.runs() == []


def ended_run(name="mine", state="finished"):
    folder = home.runs_dir() / name
    create_run(folder, TrainConfig.parse(objective="dpo", steps=3), pairs_store="gone", pairs_version=0, pairs_name="gone")
    store = StoreWriter(folder)
    store.status(state=state, stage=state, step=3)
    store.close()
    return folder


def test_stopping_a_run_that_has_ended_is_no_error(capsys):
    ended_run()
    assert main(["show", "mine", "--stop"]) == 0
    assert "mine has ended already (finished)" in capsys.readouterr().out
    assert main(["show", "mine", "--pause"]) == 1
    assert main(["show", "mine", "--resume"]) == 1
    assert "train --run-dir FOLDER --resume" in capsys.readouterr().err


def test_watching_prints_at_once(capsys, monkeypatch):
    ended_run()
    states = iter(["running", "running", "finished"])
    monkeypatch.setattr("lab.run.handle.Run.state", property(lambda self: next(states, "finished")))
    assert main(["show", "mine", "--watch"]) == 0
    assert capsys.readouterr().out.startswith("Watching mine (running, step 3 of 3); findings")


def test_a_branch_from_a_step_without_a_checkpoint_names_the_nearest(capsys):
    folder = ended_run()
    for step in (400, 450, 500):
        (folder / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    assert main(["train", "--branch", "mine@100", "--steps", "600"]) == 1
    assert "no checkpoint of step 100; the nearest is that of step 400 (kept: 400, 450, 500)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "none"], "steps = 'none'"),
        (["--model", "/nowhere/model"], "There is no folder /nowhere/model"),
        (["--pairs", "missing.jsonl"], "missing.jsonl"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_errors_that_need_no_model_come_before_its_libraries(arguments, message, more):
    arguments = ["train", "--objective", "dpo", *arguments, *more]
    program = f"import sys; from lab.cli import main; print(main({arguments!r}), {{'transformers', 'peft'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert message in done.stderr
    assert done.stdout == "1 set()\n"


def test_accelerate_with_one_process_in_place_of_several_is_noted(monkeypatch, capsys):
    for name in ("WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    note_single_process()
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    note_single_process()
    assert "accelerate launch --multi_gpu --num_processes 2 -m lab train ... (on CPUs add --device cpu" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    note_single_process()
    assert capsys.readouterr().err == ""


def test_so_few_pairs_that_none_are_held_out(rows, model_folder, tmp_path, capsys):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]), encoding="utf-8")
    few = ["--steps", "1", "--batch-size", "2", "--device", "cpu", "--eval-tokens", "4"]
    assert main(["train", "--objective", "dpo", "--pairs", str(path), "--model", str(model_folder("gpt2")), *few]) == 0
    assert "No pairs were held out (so few prompts leave none at held_out = 0.05)" in capsys.readouterr().out
