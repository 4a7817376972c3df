"""Ctrl-C, SIGTERM and a full disk in `python -m lab train`: one sentence, a usable checkpoint, the usual exit code."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lab
from lab import api
from lab.cli import interrupting, main
from lab.cli.interrupting import Interruption

pytestmark = pytest.mark.extended

COMMON = ["--objective", "dpo", "--device", "cpu", "--batch-size", "4", "--evaluate", "false", "--save-every", "5", "--json"]


@pytest.fixture
def command(rows, model_folder, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--pairs", str(path), "--model", str(model_folder("llama")), *COMMON]


def start(command, folder, steps=100_000):
    arguments = [sys.executable, "-m", "lab", "train", "--run-dir", str(folder), "--steps", str(steps), *command]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_step(process, step):
    """Read the lines of its steps up to one."""
    while json.loads(process.stdout.readline())["step"] < step:
        pass


def ended(process):
    """Exit code and what it said; no traceback."""
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return process.returncode, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)])
def test_a_signal_stops_with_a_checkpoint(number, code, command, tmp_path):
    process = start(command, tmp_path / "run")
    await_step(process, 7)
    process.send_signal(number)
    assert (returned := ended(process))[0] == code, returned
    run = lab.open_run(tmp_path / "run")
    assert run.state == "stopped"
    assert run.checkpoints()[-1].name == f"step-{run.step:06d}"
    how = f"Continue with: python -m lab train --run-dir {run.dir} --resume"
    assert f"stopped at step {run.step} in {run.dir}. {how}" in returned[1]
    assert f"with a checkpoint; a second Ctrl-C ends the process without one. {how}" in returned[1]
    assert "Stopping after step " in returned[1]


@pytest.mark.slow
def test_a_second_signal_breaks_off(command, tmp_path, monkeypatch):
    process = start(command, tmp_path / "run")
    await_step(process, 7)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    code, message = ended(process)
    assert code == 130
    run = lab.open_run(tmp_path / "run")
    assert run.state in ("crashed", "stopped"), message  # it may have been faster
    assert run.checkpoints()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own that holds little."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave no byte free."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 8, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


@pytest.mark.slow
def test_ctrl_c_with_a_full_disk_leaves_the_last_checkpoint_usable(command, small_disk):
    folder = small_disk / "run"
    process = start(command, folder)
    await_step(process, 12)
    filler = fill(small_disk)
    await_step(process, 14)
    process.send_signal(signal.SIGINT)
    code, message = ended(process)
    assert code == 1, message
    (line,) = [line for line in message.splitlines() if line.startswith("error: ")]
    assert "could not be written (No space left on device)" in line
    assert "The last checkpoint is of step" in line
    assert line.endswith(f"Continue with: python -m lab train --run-dir {folder} --resume")
    last = int(lab.open_run(folder).checkpoints()[-1].name[-6:])
    assert f"of step {last}." in line
    filler.unlink()
    again = subprocess.Popen(
        [sys.executable, "-m", "lab", "train", "--run-dir", str(folder), "--resume", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert json.loads(again.stdout.readline())["step"] == last + 1
    again.send_signal(signal.SIGINT)
    assert ended(again)[0] == 130


def test_a_disk_that_is_full_or_cannot_be_written_is_said_before_the_start(rows, model_folder, small_disk):
    (small_disk / "full").mkdir()
    filler = fill(small_disk)
    with pytest.raises(lab.RunError, match="disk is full"):
        lab.train("dpo", rows, model_folder("llama"), run_dir=small_disk / "full", steps=2, device="cpu", evaluate=False)
    filler.unlink()
    lab.train(
        "dpo", rows, model_folder("llama"), run_dir=small_disk / "run", steps=2, device="cpu", evaluate=False, background=False
    )
    locked = small_disk.with_name("locked")
    locked.mkdir()
    subprocess.run(["mount", "--bind", str(small_disk), str(locked)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(locked)], check=True)
        for given in ({"run_dir": locked / "other", "steps": 2}, {"run_dir": locked / "run", "resume": True}):
            sources = () if "resume" in given else ("dpo", rows, model_folder("llama"))
            with pytest.raises(lab.RunError, match="Read-only file system") as refused:
                lab.train(*sources, **given)
            assert "\n" not in str(refused.value)
    finally:
        subprocess.run(["umount", "-l", str(locked)], check=True)


def test_a_run_on_a_disk_that_fills_up_keeps_its_last_checkpoint(rows, model_folder, small_disk):
    fillers = []

    def on_step(step, scalars):
        if step == 5:
            fillers.append(fill(small_disk))
        if step == 7:
            lab.open_run(folder).stop()

    folder, settings = small_disk / "run", {"steps": 9, "batch_size": 4, "save_every": 2, "device": "cpu", "evaluate": False}
    run = lab.train("dpo", rows, model_folder("llama"), run_dir=folder, background=False, on_step=on_step, **settings)
    assert run.state == "failed"
    assert "The checkpoint of step 7 could not be written (No space left on device)" in run.error
    assert [checkpoint.name for checkpoint in run.checkpoints()] == ["step-000002", "step-000004"]
    fillers[0].unlink()
    assert lab.train(run_dir=folder, resume=True, background=False).state == "finished", run.error
    whole = lab.train("dpo", rows, model_folder("llama"), background=False, **settings)
    assert run.scalars(["loss"]).equals(whole.scalars(["loss"]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_signal_at_any_moment(seed, command, tmp_path):
    """One or two signals anywhere from the first import to the last line."""
    draw = random.Random(seed)
    process = start(command, tmp_path / "run", steps=40)
    time.sleep(draw.random() * 12)
    number = draw.choice([signal.SIGINT, signal.SIGTERM])
    for _ in range(draw.choice([1, 2])):
        if process.poll() is None:
            os.kill(process.pid, number)
        time.sleep(draw.random() * 0.1)
    code, message = ended(process)
    assert code in (0, 130, 143, -signal.SIGTERM), message  # the last: before Python's first line or after its last, 143 to a shell
    if not (tmp_path / "run" / "run.json").exists():
        return
    run = lab.train(run_dir=tmp_path / "run", resume=True, background=False)
    assert run.state == "finished", run.error


def test_between_twins_a_signal_counts(monkeypatch, tmp_path):
    """While the end of one run is printed a signal is remembered, and once the next begins it ends the process again."""
    monkeypatch.setattr(os, "_exit", sys.exit)
    now = Interruption()
    now.began(tmp_path)
    now.over()
    assert now.next()
    with pytest.raises(SystemExit, match="130"):
        now._handle(signal.SIGINT, None)
    now = Interruption()
    now.began(tmp_path)
    now.over()
    now._handle(signal.SIGTERM, None)
    assert (now.code, now.next()) == (143, False)


def test_the_second_twin_is_not_started_after_a_signal(rows, model_folder, tmp_path, monkeypatch, capsys):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = ["train", *COMMON[:-1], "--pairs", str(pairs), "--model", str(model_folder("gpt2")), "--steps", "2", "--twin", "ipo"]
    given.insert(-2, "--probe-budget=0")
    start_run, ready = api.start_run, []

    def start(*args, **kwargs):
        ready.append(not interrupting.interruption._over)
        return start_run(*args, **kwargs)

    monkeypatch.setattr(api, "start_run", start)
    monkeypatch.setattr(interrupting.interruption, "code", None)
    assert main([*given, "--run-dir", str(tmp_path / "both")]) == 0
    assert ready[1:] == [True], "a signal before the second run trains ends the process"
    over = Interruption.over

    def interrupted(self):
        over(self)
        self._handle(signal.SIGINT, None)

    monkeypatch.setattr(Interruption, "over", interrupted)
    assert main([*given, "--run-dir", str(tmp_path / "one")]) == 130
    assert "Its twin was not started" in capsys.readouterr().out
    assert len(ready) == 3
