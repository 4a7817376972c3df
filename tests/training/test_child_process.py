"""Training in a separate process: equal numbers, independent of its parent, and an error message for every failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

import lab
from lab.cli import main
from lab.objectives import DPO, OBJECTIVES
from lab.run import RunLock, is_held
from lab.run.config import ConfigError
from lab.store import RunError
from tests.helpers import until

pytestmark = pytest.mark.extended

SHORT = {"steps": 4, "batch_size": 4, "save_every": 0, "device": "cpu", "probe_budget": 0, "eval_tokens": 8}


@pytest.fixture
def data(rows, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def no_process_left(tmp_path):
    """Kill the process of a test that failed half way; it would train for days."""
    yield
    if (tmp_path / "run" / "run.json").exists() and is_held(tmp_path / "run"):
        process = lab.open_run(tmp_path / "run").status.get("process")
        if process and process != os.getpid():
            os.kill(process, signal.SIGKILL)


def test_a_detached_run_equals_one_in_a_thread_bit_for_bit(data, model_folder, tmp_path, capsys):
    thread = lab.train("sgdpo", data, model_folder("llama"), background=False, **SHORT)
    flags = [part for name, value in SHORT.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    where = ["--pairs", str(data), "--model", str(model_folder("llama")), "--run-dir", str(tmp_path / "run")]
    assert main(["train", "--objective", "sgdpo", *where, *flags, "--detach", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "run", "folder": str(tmp_path / "run")}
    process = lab.open_run(tmp_path / "run")
    assert (thread.state, process.wait(180)) == ("finished", "finished"), process.error
    assert (thread.status["executor"], process.status["executor"]) == ("thread", "process")
    assert thread.status["process"] == os.getpid() != process.status["process"]
    names = ["loss", "grad_norm", "rewards/margins"]
    assert thread.scalars(names).equals(process.scalars(names))
    expected, actual = (load_file(run.checkpoints()[-1] / "model.safetensors") for run in (thread, process))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert process.events("resumed", "warning").empty
    assert len((process.dir / "process.log").read_text().splitlines()) == 1  # only the line with its command


PARENT = """
import sys, time, lab
settings = {"steps": 100_000, "batch_size": 4, "save_every": 0, "device": "cpu", "eval_tokens": 8}
run = lab.train("dpo", sys.argv[1], sys.argv[2], run_dir=sys.argv[3], executor="process", **settings)
print(run.state, flush=True)
time.sleep(600)
"""


def test_a_training_process_outlives_its_parent_and_handles_requests(data, model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    arguments = [str(data), str(model_folder("llama")), str(tmp_path / "run")]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline().strip() == "queued"  # alive from the first moment
    parent.kill()
    parent.wait()
    run = lab.open_run(tmp_path / "run")
    until(lambda: run.step >= 2, run=run, seconds=180)
    child = run.status["process"]
    assert os.getsid(child) == child  # a closed terminal does not end it
    assert b"CUDA_VISIBLE_DEVICES=5" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    assert [(place.place, place.device) for place in lab.queue()] == [(0, "cpu")]
    run.pause()
    until(lambda: run.state == "paused", run=run, seconds=180)
    run.resume()
    until(lambda: run.state == "running", run=run, seconds=180)
    run.stop()
    assert run.wait(180) == "stopped"
    stopped = run.step
    again = lab.train(run_dir=run.dir, resume=True, executor="process")
    until(lambda: again.step > stopped, run=again, seconds=180)
    assert again.events("resumed")["step"].tolist() == [stopped]
    os.kill(again.status["process"], signal.SIGKILL)
    assert again.wait(30) == "crashed"
    until(lambda: again.error, seconds=30)
    assert again.error == "The training process was ended by SIGKILL (memory may have run out)."
    assert lab.queue() == []
    assert (run.dir / "process.log").read_text().count("--- ") == 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'ImportError: libtorch is missing' >&2; exit 1", "ImportError: libtorch is missing"),
        ("exit 3", "The training process ended with exit code 3 and without an error message."),
    ],
)
def test_a_child_that_fails_at_its_start_has_an_error(script, reason, rows, model_folder, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    run = lab.train("dpo", rows, model_folder("llama"), executor="process", **SHORT)
    assert run.wait(10) == "crashed"
    until(lambda: run.error, seconds=30)
    assert run.error == reason


def test_a_child_that_cannot_be_started_fails_the_run(rows, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(RunError, match="could not be started"):
        lab.train("dpo", rows, model_folder("llama"), run_dir=tmp_path / "run", executor="process", **SHORT)
    run = lab.open_run(tmp_path / "run")
    assert run.state == "failed"
    assert "could not be started" in run.error


class Own(DPO):
    """An objective that is registered in this program only."""

    name: ClassVar[str] = "own"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"executor": "cluster"}, "no executor 'cluster'"),
        ({"executor": "process", "on_step": print}, "on_step"),
        ({"executor": "process", "objective": "own"}, "does not know 'own'"),
        ({"executor": "process", "objective": {"name": "spo", "base": "own"}}, "does not know 'own'"),
    ],
)
def test_settings_that_a_process_cannot_have_are_refused(given, sentence, rows, lab_home, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "own", Own)
    with pytest.raises(ConfigError, match=sentence):
        lab.train(**{"objective": "dpo", "pairs": rows, **given})
    assert not (lab_home / "runs").exists()


def test_a_lock_can_be_inherited_only_for_its_own_folder(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    lock = RunLock(tmp_path / "one")
    RunLock(tmp_path / "other").release()
    with pytest.raises(RuntimeError, match="not the lock of"):
        RunLock.inherited(tmp_path / "other", lock.descriptor)
    assert RunLock.inherited(tmp_path / "one", lock.descriptor).descriptor == lock.descriptor
    lock.release()
