"""The run handle: start, read, pause, stop, resume, failures and killed processes."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import lab
from lab.run.config import ConfigError
from lab.store import RunError
from tests.helpers import quick_first, until

FAST = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "save_every": 3, "device": "cpu", "eval_prompts": 0}


def weights(run):
    from safetensors.torch import load_file

    folder = run.checkpoints()[-1]
    name = "model.safetensors" if (folder / "model.safetensors").exists() else "adapter_model.safetensors"
    return load_file(folder / name) | load_file(folder / "trainer.safetensors")


@pytest.mark.parametrize("objective", ["dpo", "simpo", "sgdpo", "alpha_dpo", {"name": "spo", "base": "sgdpo"}])
def test_a_run_from_start_to_finish(objective, rows, model_folder):
    run = lab.train(objective, rows, model_folder("gpt2"), **FAST)
    assert run.wait(120) == "finished", run.error
    scalars = run.scalars(["loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "grad_norm"])
    assert scalars.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(scalars.to_numpy()).all()
    assert scalars["rewards/margins"].iloc[-1] > scalars["rewards/margins"].iloc[0]
    pairs = run.pairs()
    assert len(pairs) == 24
    assert {"log_ratio_chosen", "log_ratio_rejected", "weight_chosen", "weight_rejected", "logit"} <= set(pairs.columns)
    checks = [d for d in run.events("check")["detail"] if d["what"].startswith("loss")]
    assert all(d["passed"] for d in checks)
    layers = run.layers()
    assert {"layer", "norm_chosen", "norm_rejected", "cosine"} <= set(layers.columns)
    assert [path.name for path in run.checkpoints()] == ["step-000003", "step-000006"]
    assert lab.open_run(run.dir).state == "finished"
    assert [r.dir.name for r in lab.runs()] == [run.dir.name]
    tokens = run.reader.tokens.read(6)
    assert len(tokens) == 8
    assert (tokens["credit"].map(len) == tokens["ids"].map(len)).all()
    if objective == "sgdpo":
        assert tokens["pilot"].iloc[0].dtype == bool


def test_a_background_run_returns_at_once_and_handles_requests(rows, model_folder):
    began = time.monotonic()
    run = lab.train("dpo", rows, model_folder("llama"), **FAST | {"steps": 100_000, "save_every": 0})
    assert time.monotonic() - began < 5
    until(lambda: run.step >= 3, run=run)
    other = lab.open_run(run.dir)  # a second handle, as another process would hold it
    other.pause()
    until(lambda: run.state == "paused", run=run)
    held = run.step
    time.sleep(0.6)
    assert run.step == held
    other.resume()
    until(lambda: run.step > held, run=run)
    other.checkpoint()
    other.stop()
    assert run.wait(60) == "stopped"
    assert run.checkpoints()[-1].name == f"step-{run.step:06d}"
    with pytest.raises(RunError, match="is stopped"):
        run.pause()


@pytest.mark.parametrize(
    ("objective", "extra"),
    quick_first(
        ("alpha_dpo", {"lora_rank": 2}),
        ("dpo", {"lora_rank": 2, "lora_dropout": 0.3}),
        ("sgdpo", {}),
        ({"name": "spo", "degraded_source": "both"}, {}),
        quick=2,
    ),
)
def test_resumed_equals_uninterrupted(objective, extra, rows, model_folder, tmp_path):
    settings = FAST | extra | {"save_every": 2, "keep_checkpoints": 10}
    whole = lab.train(objective, rows, model_folder("llama"), run_dir=tmp_path / "whole", background=False, **settings)
    part = lab.train(objective, rows, model_folder("llama"), run_dir=tmp_path / "part", background=False, **settings)
    assert whole.state == part.state == "finished"
    import shutil

    for folder in part.checkpoints()[1:]:
        shutil.rmtree(folder)
    resumed = lab.train(run_dir=tmp_path / "part", resume=True, background=False)
    assert resumed.state == "finished", resumed.error
    assert resumed.events("resumed")["step"].tolist() == [2]
    expected, actual = weights(whole), weights(resumed)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    names = ["loss", "grad_norm", "rewards/margins"]
    assert whole.scalars(names).equals(resumed.scalars(names))
    assert whole.pairs().equals(resumed.pairs())


@pytest.mark.extended
def test_a_killed_run_has_crashed_and_can_be_resumed(rows, model_folder, tmp_path, lab_home):
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "lab",
        "train",
        "--objective",
        "sgdpo",
        "--pairs",
        str(data),
        "--model",
        str(model_folder("llama")),
    ]
    command += ["--steps", "40", "--batch-size", "4", "--save-every", "5", "--run-dir", str(folder), "--json", "--device", "cpu"]
    command += ["--eval-tokens", "8"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if json.loads(line)["step"] == 12:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = lab.open_run(folder)
    assert run.state == "crashed"
    assert run.step >= 10  # the steps before a checkpoint are on the disk before it
    assert lab.runs()[0].state == "crashed"  # runs in other folders are listed too
    resumed = lab.train(run_dir=folder, resume=True, background=False)
    assert resumed.state == "finished"
    settings = {"steps": 40, "batch_size": 4, "save_every": 5, "device": "cpu", "eval_tokens": 8}
    whole = lab.train("sgdpo", data, model_folder("llama"), background=False, **settings)
    expected, actual = whole.scalars(["loss", "grad_norm"]), resumed.scalars(["loss", "grad_norm"])
    assert expected.index.equals(actual.index)
    # Another process may use another number of threads, which rounds differently.
    assert np.allclose(expected, actual, rtol=1e-3, atol=1e-5)


def test_a_failed_run_shows_the_reason(rows, model_folder):
    run = lab.train(
        "dpo", rows, model_folder("llama"), **FAST | {"learning_rate": 1e9, "max_grad_norm": 0, "steps": 50, "warmup_ratio": 0}
    )
    assert run.wait(60) == "failed"
    assert "not finite" in run.error
    assert "lower learning rate" in run.error
    assert "Traceback" in (run.dir / "log.txt").read_text()
    assert len(run.scalars(["loss"])) >= 1


def test_out_of_memory_fails_the_run_with_advice_and_it_can_be_resumed(rows, model_folder):
    def on_step(step, scalars):
        if step == 4:
            torch.empty(2**50)  # the allocator's own refusal, in the training thread

    run = lab.train("dpo", rows, model_folder("llama"), background=False, on_step=on_step, **FAST)
    assert run.state == "failed"
    assert run.error.startswith(
        "Out of memory: lower micro_batch_size or max_length, switch gradient_checkpointing on, or train an"
    )
    assert "Traceback" in (run.dir / "log.txt").read_text()
    assert lab.queue() == []
    again = lab.train(run_dir=run.dir, resume=True, background=False)
    assert (again.state, again.error) == ("finished", None)
    assert again.events("resumed")["step"].tolist() == [3]


def test_float16_is_refused_with_the_reason(rows, model_folder):
    for name in ("float16", "fp16"):
        with pytest.raises(ConfigError, match=r"float16 cannot hold the range of these gradients .* use bfloat16 or float32"):
            lab.train("dpo", rows, model_folder("llama"), precision=name)
    assert lab.runs() == []


def test_a_missing_model_is_refused(rows):
    with pytest.raises(lab.ModelError, match=r"no/such-model, .*HF_HUB_OFFLINE"):
        lab.train("dpo", rows, "no/such-model", steps=1)
    assert lab.runs() == []


def test_requirements_that_fail_leave_no_run_behind(rows, model_folder, tmp_path):
    parent = lab.train("dpo", rows, model_folder("llama"), background=False, **FAST | {"steps": 1})
    fresh = {"objective": "dpo", "pairs": rows, "model": model_folder("llama")}
    for settings, sentence in (
        ({"quantize": "4bit"}, "give it an adapter"),
        ({"quantize": "4bit", "lora_rank": 2}, "4 bits need a CUDA GPU"),
        ({"reward_model": "/not/here"}, "The reward model /not/here cannot be loaded"),
        ({"device": "cuda:9"}, "The device 'cuda:9' cannot be used here"),
        ({"trackers": "nobody"}, "nobody"),
    ):
        for what in (fresh, {"branch_from": parent}):
            if what is fresh or "lora_rank" not in settings:  # a branch cannot add an adapter
                with pytest.raises(ValueError, match=sentence):
                    lab.train(**what, run_dir=tmp_path / "run", **FAST | {"steps": 3} | settings)
        assert not (tmp_path / "run").exists()
        if "trackers" not in settings:
            with pytest.raises(ValueError, match=sentence):
                lab.preflight(**fresh, **FAST | settings)
    assert [run.dir for run in lab.runs()] == [parent.dir]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"objective": "dpo2"}, "no objective 'dpo2'"),
        ({"objective": {"name": "dpo", "gamma": 1}}, "no parameter 'gamma'"),
        ({"objective": "dpo", "steps": 0}, "steps = 0 does not work"),
        ({"objective": "dpo", "learning_rate": math.nan}, "learning_rate"),
        ({"objective": "dpo", "stepz": 5}, "no setting 'stepz'"),
        ({"objective": "dpo", "schedule": "zigzag"}, "schedule"),
        ({}, "Give an objective"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(given, sentence, rows, lab_home):
    with pytest.raises(ConfigError, match=sentence):
        lab.train(**given, pairs=rows)
    assert not (lab_home / "runs").exists()


def test_a_folder_contains_one_run(rows, model_folder, tmp_path):
    lab.train("dpo", rows, model_folder("llama"), run_dir=tmp_path / "run", background=False, **FAST)
    with pytest.raises(RunError, match="There is a run in"):
        lab.train("dpo", rows, model_folder("llama"), run_dir=tmp_path / "run", **FAST)
    with pytest.raises(RunError, match="holds no run"):
        lab.open_run(tmp_path)


def test_a_run_in_training_cannot_be_deleted(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **FAST | {"steps": 100_000})
    with pytest.raises(RunError, match="stop it before"):
        run.delete()
    run.stop()
    run.wait(60)
    run.delete()
    assert not run.dir.exists()
    assert lab.runs() == []


def test_later_edits_do_not_affect_a_run(rows, model_folder):
    pairs = lab.open_pairs(rows)
    pairs.edit(pairs.ids()[0], chosen="An answer that was edited before the run.")
    run = lab.train("dpo", pairs, model_folder("llama"), background=False, **FAST)
    assert run.manifest["pairs_version"] == 1
    pairs.edit(pairs.ids()[0], chosen="And another one after it.")
    seen = run.pairs().set_index("pair")["version"]
    assert set(seen) <= {1, 2}
    assert Path(run.manifest["pairs_store"]).samefile(pairs.path)


def test_texts_longer_than_the_models_context_are_cut_with_a_warning(rows, tmp_path):
    import transformers

    from tests.models import tokenizer

    tokens = tokenizer()
    config = transformers.GPT2Config(
        n_embd=32, n_layer=1, n_head=2, n_positions=24, vocab_size=len(tokens), bos_token_id=0, eos_token_id=1
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "short")
    tokens.save_pretrained(tmp_path / "short")
    run = lab.train("dpo", rows, tmp_path / "short", background=False, **FAST)
    assert run.state == "finished", run.error
    assert any("longer than 16 tokens (of 24, " in detail["message"] for detail in run.events("warning")["detail"])


def test_token_steps_limits_the_steps_with_token_values(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), background=False, token_steps=2, **FAST)
    assert run.reader.tokens.steps() == [5, 6]


def test_runs_lists_the_others_beside_a_damaged_run(rows, model_folder, lab_home):
    run = lab.train("dpo", rows, model_folder("llama"), background=False, **FAST)
    (lab_home / "runs" / "half").mkdir()
    (lab_home / "runs" / "half" / "run.json").write_text('{"conf')
    (lab_home / "runs" / "rubbish").mkdir()
    (lab_home / "runs" / "rubbish" / "run.json").write_text("{}")
    (lab_home / "runs" / "rubbish" / "run.sqlite").write_text("no database " * 200)
    assert [listed.dir.name for listed in lab.runs()] == [run.dir.name]
    with pytest.raises(RunError, match="is damaged"):
        lab.open_run("half")


def test_an_unreadable_request_is_skipped(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **FAST | {"steps": 100_000, "save_every": 0})
    until(lambda: run.step >= 2, run=run)
    (run.dir / "requests").mkdir(exist_ok=True)
    (run.dir / "requests" / "note.txt").write_text("hello")
    (run.dir / "requests" / "9.json").write_text("{")
    run.stop()
    assert run.wait(60) == "stopped", run.error


def test_a_file_named_world_is_not_the_embedded_world(rows, model_folder, tmp_path):
    path = tmp_path / "world.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = lab.train("dpo", path, model_folder("llama"), background=False, **FAST)
    assert run.state == "finished"
    assert not {"eval/oracle_reward", "eval/win_rate"} & set(run.reader.scalars.names())  # no oracle


@pytest.mark.extended
def test_the_end_of_the_program_stops_a_run_with_a_checkpoint(rows, model_folder, tmp_path):
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = (
        "import lab, time, sys\n"
        f"run = lab.train('dpo', {str(data)!r}, {str(model_folder('llama'))!r}, run_dir={str(tmp_path / 'run')!r}, "
        "steps=100000, save_every=0, evaluate=False)\n"
        "while run.step < 3 and not run.error: time.sleep(0.02)\n"
    )
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert program.returncode == 0, program.stderr
    run = lab.open_run(tmp_path / "run")
    assert run.state == "stopped"
    assert run.checkpoints()


def test_concurrent_runs_have_the_random_numbers_of_single_ones(rows, model_folder):
    settings = FAST | {"lora_rank": 2, "lora_dropout": 0.3, "probe_budget": 0}
    alone = lab.train("dpo", rows, model_folder("llama"), background=False, **settings)
    together = [lab.train("dpo", rows, model_folder("llama"), queue=False, **settings) for _ in range(2)]
    for run in together:
        assert run.wait(120) == "finished"
        assert run.scalars(["loss", "grad_norm"]).equals(alone.scalars(["loss", "grad_norm"]))


def test_missing_values_are_left_out_of_averages(rows, model_folder):
    objective = {"name": "spo", "share": 0.4}
    runs = [
        lab.train(objective, rows, model_folder("llama"), background=False, micro_batch_size=size, **FAST | {"learning_rate": 0})
        for size in (None, 1)
    ]
    names = ["loss", "loss_degree", "degree_accuracy", "rank_correlation"]
    whole, parts = (run.scalars(names) for run in runs)
    assert np.allclose(whole, parts, atol=1e-4, equal_nan=True)
    confusion = runs[0].scalars([name for name in runs[0].reader.scalars.names() if name.startswith("degree_confusion")])
    right = confusion[[f"degree_confusion/{k}/{k}" for k in range(4)]].sum(axis=1) / confusion.sum(axis=1)
    assert np.allclose(right.dropna(), whole["degree_accuracy"].dropna(), atol=1e-6)
