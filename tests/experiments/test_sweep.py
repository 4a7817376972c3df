"""Experiments of real runs on the embedded world: in processes, killed, continued, extended and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import lab
from lab import sweep_processes, sweeping
from lab.cli import main
from lab.run import is_held
from lab.run.config import ConfigError
from lab.sweep_processes import Costs
from lab.world import ensure
from tests.helpers import until

QUICK = {"steps": 4, "batch_size": 2, "eval_every": 2, "eval_prompts": 3, "eval_pairs": 4, "panel_pairs": 0, "probe_budget": 0}
FILE = """
objectives: [dpo, {name: sgdpo, r1: 0.3}]
seeds: 1
with_seed: {warmup_ratio: [0.1, 0.2]}
steps: 4
batch_size: 2
eval_prompts: 3
eval_pairs: 4
panel_pairs: 0
probe_budget: 0
"""


@pytest.fixture(autouse=True)
def world(shared_cache: Path) -> None:
    ensure(cache=shared_cache)


def processes_of(run_folder: Path) -> list[psutil.Process]:
    """The processes that train a run."""
    named = []
    for process in psutil.process_iter(["cmdline"]):
        if str(run_folder) in (process.info["cmdline"] or []):
            named.append(process)
    return named


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(FILE)
    return path


def test_a_dry_run_lists_the_runs_and_starts_nothing(
    file: Path, lab_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is that of a trial: start, an evaluation before, one in between and one after 4 steps, of two runs."""
    monkeypatch.setattr(sweep_processes, "trial", lambda run, threads: Costs(start=10, step=1, first=2, last=4))
    file.write_text(f"{FILE}eval_every: 2")
    assert main(["sweep", str(file), "--dry-run", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["small: 2 runs, 2 to do, 1 at a time", "  dpo: seed 0", "  sgdpo: seed 0"]
    assert lines[3] == "time: about 48 s (rough, from a trial of 6 steps and two evaluations of the first run)"
    assert not (lab_home / "runs").exists()
    assert not (lab_home / "experiments").exists()


@pytest.mark.extended
def test_a_trial_measures_every_part_of_a_run_and_leaves_nothing(lab_home: Path) -> None:
    folder, declaration = sweeping.declared("dpo", seeds=1, name="new", **QUICK)
    content = sweeping.resolved(folder, declaration)
    costs = sweep_processes.trial(content.runs[0], content.threads)
    assert costs is not None
    assert min(costs.start, costs.step, costs.first, costs.last) > 0
    assert costs.start > costs.step  # the process loads the libraries
    assert not (lab_home / "runs").exists()


def test_settings_are_checked_before_anything_is_written(lab_home: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rate = -1"):
        lab.sweep(["dpo", "sgdpo"], learning_rate=[1e-4, -1], seeds=2, name="wrong")
    with pytest.raises(ConfigError, match="workers = 0"):
        lab.sweep("dpo", seeds=2, name="wrong", workers=0)
    with pytest.raises(ConfigError, match="file holds the whole experiment"):
        lab.sweep("dpo", file="a.yaml")
    assert not (lab_home / "experiments").exists()


@pytest.mark.extended
def test_a_file_is_run_to_its_end_and_then_shown(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(file)]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 runs finished" in out
    assert "variant  finished  Oracle reward of sampled answers" in out
    folders = {path: path.stat().st_mtime_ns for path in (run.dir for run in lab.runs())}
    assert len(folders) == 2
    assert main(["sweep", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (shown["state"], len(shown["runs"]), len(shown["sentences"])) == ("finished", 2, 2)
    assert {run.dir: run.dir.stat().st_mtime_ns for run in lab.runs()} == folders  # nothing was trained again
    manifest = json.loads((next(iter(folders)) / "run.json").read_text())
    assert (manifest["experiment"]["name"], manifest["experiment"]["with_seed"]) == ("small", ["warmup_ratio"])


@pytest.mark.extended
def test_a_killed_experiment_is_continued(lab_home: Path) -> None:
    """The process that starts the runs and one of the runs are killed; what is finished is kept, the rest is done."""
    settings = QUICK | {"steps": 60, "eval_every": 0, "save_every": 10}
    experiment = lab.sweep(["dpo", "sgdpo"], seeds=2, name="killed", workers=2, **settings)
    driver = until(lambda: next(iter(processes_named(experiment.name)), None))
    first, second = experiment.runs[:2]

    def folder() -> Path | None:
        path = experiment.run_folder(first.key)
        return path if path and list(path.glob("checkpoints/step-*")) else None

    path = until(folder, seconds=120)
    driver.kill()
    until(lambda: not is_held(experiment.folder))
    assert experiment.state().state == "interrupted"
    (process,) = processes_of(path)
    process.kill()
    until(lambda: lab.open_run(path).state == "crashed")
    other = experiment.run_folder(second.key)
    before = other.stat().st_ino
    lab.sweep(extend="killed", background=False)
    state = experiment.state()
    assert (state.state, state.count("finished")) == ("finished", 4)
    assert other.stat().st_ino == before
    resumed = lab.open_run(path).events("resumed")
    assert resumed["step"].iloc[0] >= 10
    assert len(experiment.table()["run"].unique()) == 4


def processes_named(name: str) -> list[psutil.Process]:
    """The processes that start the runs of an experiment."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if (process.info["cmdline"] or [])[-4:-1] == ["sweep", name, "--resume"]]


@pytest.mark.extended
def test_ctrl_c_stops_with_a_checkpoint(file: Path, lab_home: Path) -> None:
    file.write_text(FILE.replace("steps: 4", "steps: 5000"))
    command = [sys.executable, "-m", "lab", "sweep", str(file), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    experiment = until(lambda: (lab_home / "experiments" / "small" / "state.json").exists() and lab.open_experiment("small"))
    until(lambda: any(run.step > 3 for run in experiment.state().runs.values()), seconds=120)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "Stopped; continue with: python -m lab sweep small --resume"
    state = experiment.state()
    assert (state.state, state.count("stopped", "waiting")) == ("stopped", 2)  # the second run may wait in the first one's process
    assert any(run.checkpoints() for run in lab.runs())


@pytest.mark.extended
def test_numbers_repeat_to_the_digit(lab_home: Path) -> None:
    tables = [
        lab.sweep(["dpo"], seeds=2, name=name, background=False, workers=workers, **QUICK).table()
        for name, workers in (("one", 1), ("two", 2))
    ]
    columns = [name for name in tables[0] if name.startswith("eval/")]
    assert len(columns) > 10
    one, two = (table.reset_index(drop=True)[columns] for table in tables)
    assert one.equals(two) or (one - two).abs().max().max() == 0
