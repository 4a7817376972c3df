"""Several runs in one process, one after another: ordinary runs, stopped, killed and resumed apart from each other."""

from __future__ import annotations

import os
import signal

import pytest

import lab
from lab.run import is_held
from lab.starting import make_run
from lab.store import ENDED
from lab.training.setup.child_process import start_group
from tests.helpers import until

pytestmark = pytest.mark.extended

SETTINGS = {"steps": 6, "batch_size": 4, "save_every": 2, "device": "cpu", "probe_budget": 0, "eval_tokens": 8, "eval_every": 3}
NAMES = ["loss", "grad_norm", "rewards/margins", "eval/loss", "eval/kl"]


@pytest.fixture
def make(rows, model_folder, tmp_path):
    """Return a function that makes the folders of runs, which differ in their seed; their processes end with the test."""
    folders = []

    def make(count, **settings):
        for seed in range(count):
            folder, chosen = tmp_path / f"seed{seed}", SETTINGS | settings
            folders.append(make_run("sgdpo", rows, model_folder("llama"), run_dir=folder, seed=seed, listed=False, **chosen))
        return folders

    yield make
    for folder in filter(is_held, folders):
        process = lab.open_run(folder).status.get("process")
        if process and process != os.getpid():
            os.kill(process, signal.SIGKILL)


def test_runs_of_a_group_equal_runs_of_their_own(make, rows, model_folder):
    folders = make(3)
    start_group(folders, queue=False, threads=2)
    assert all(map(is_held, folders))
    runs = [lab.open_run(folder) for folder in folders]
    assert [run.wait(180) for run in runs] == ["finished"] * 3, [run.error for run in runs]
    assert len({run.status["process"] for run in runs} | {os.getpid()}) == 2
    alone = lab.train("sgdpo", rows, model_folder("llama"), seed=2, background=False, listed=False, **SETTINGS)
    assert runs[2].scalars(NAMES).equals(alone.scalars(NAMES))
    assert not any(map(is_held, folders))


def test_a_run_is_stopped_before_its_turn_and_the_others_go_on(make):
    folders = make(3, steps=300)
    start_group(folders, queue=False)
    first, second, third = runs = [lab.open_run(folder) for folder in folders]
    until(lambda: first.step > 2, 120, lambda: str([run.status for run in runs]))
    second.stop()
    assert second.wait(20) == "stopped"
    assert (second.step, first.state, third.state) == (0, "running", "queued")
    first.stop()
    assert first.wait(60) == "stopped"
    until(lambda: third.step > 0, 60, lambda: str(third.status))
    third.stop()
    assert third.wait(60) == "stopped"
    resumed = lab.train(run_dir=second.dir, resume=True)
    until(lambda: resumed.step > 0, 60, run=resumed)
    resumed.stop()
    assert resumed.wait(60) == "stopped"


def test_a_killed_group_is_resumed(make):
    folders = make(2, steps=40)
    start_group(folders, queue=False)
    first, second = (lab.open_run(folder) for folder in folders)
    until(lambda: len(first.checkpoints()) > 1, 120, lambda: str(first.status), run=first)
    os.kill(first.status["process"], signal.SIGKILL)
    until(lambda: not any(map(is_held, folders)), 20)
    assert "SIGKILL" in until(lambda: (second.dir / "process.log").read_text().partition("ended by")[2], 20)
    assert (first.state in ENDED, second.step) == (True, 0)
    start_group(folders, queue=False)
    assert [run.wait(180) for run in (first, second)] == ["finished"] * 2
    assert first.events("resumed")["step"].max() >= 2
    assert len(first.scalars(["loss"]).dropna()) == 40
