"""kill -9 at random moments, a hundred times over all objectives: every run ends with the numbers of an uninterrupted one."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import lab
from lab.objectives import OBJECTIVES
from tests.training import trial
from tests.training.run_comparison import assert_same

KILLS = 4
"""Kills per objective: 104 for 26 objectives."""

PATIENCE = 120.0

kills: Counter[str] = Counter()
"""Number of kills by what the process was doing, over all runs."""


@pytest.fixture(scope="module")
def forking():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.trial"])
    yield context
    print(f"\n{sum(kills.values())} kills: {dict(kills)}")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(OBJECTIVES)), ids=list(OBJECTIVES))
def test_killed_and_resumed_runs_equal_an_uninterrupted_one(number, forking, rows, model_folder, tmp_path):
    objective, moments = list(OBJECTIVES)[number], random.Random(number)
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows[:10]))
    undisturbed, victim = tmp_path / "undisturbed", tmp_path / "victim"

    def start(place: Path) -> multiprocessing.Process:
        process = forking.Process(target=trial.train, args=(place, objective, model_folder("llama"), data))
        process.start()
        return process

    began = time.monotonic()
    process = start(undisturbed)
    process.join(PATIENCE)
    assert process.exitcode == 0
    whole = lab.open_run(undisturbed / "run")
    assert whole.state == "finished", whole.error
    assert whole.events("change", "edit")["step"].tolist() == [3, 5]
    lasted = time.monotonic() - began

    killed = 0
    while killed < KILLS:
        left = leftovers(victim / "run")
        process = start(victim)
        wait_for_a_random_moment(victim / "run", moments, lasted, lambda process=process: process.is_alive())
        process.kill()
        process.join(PATIENCE)
        if process.exitcode == 0:  # it had ended before
            shutil.rmtree(victim)
            continue
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        kills[phase(victim / "run", left)] += 1
        for path in [*victim.glob("run/*.sqlite"), *victim.glob("cache/reference/*.sqlite"), *victim.glob("home/pairs/*.sqlite")]:
            with closing(sqlite3.connect(path)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
    process = start(victim)
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert_same(lab.open_run(victim / "run"), whole)


def wait_for_a_random_moment(folder: Path, moments: random.Random, lasted: float, alive: Callable[[], bool]) -> None:
    """Wait for a random moment, or until a checkpoint or the store is being written or deleted, or until the process ends."""
    kind = moments.choice(["any", "any", "any", "saving", "deleting", "store"])
    if kind == "any":
        time.sleep(moments.random() * lasted)
        return
    readings = {
        "saving": lambda: [path.stat().st_ino for path in folder.glob("checkpoints/.*.draft")],
        "deleting": lambda: [path.stat().st_ino for path in folder.glob("checkpoints/.step-*") if path.suffix != ".draft"],
        "store": lambda: [path.stat().st_size for path in folder.glob("run.sqlite-wal")],
    }
    skip = moments.randrange(6)  # not always the first
    before = None
    while alive():
        try:
            present = readings[kind]()
        except OSError:  # deleted between listing and reading
            continue
        if present and present != before:
            before, skip = present, skip - 1
        if skip < 0:
            time.sleep(moments.random() * 0.01)
            return
        time.sleep(0.0002)


def leftovers(folder: Path) -> set[tuple[str, int]]:
    """Return the temporary folders in which checkpoints are written or deleted."""
    return {(path.name, path.stat().st_ino) for path in folder.glob("checkpoints/.step-*")}


def phase(folder: Path, before: set[tuple[str, int]]) -> str:
    """Return what a killed process was doing, from the files that it left."""
    if not (folder / "run.sqlite").exists():
        return "making the run"
    left = [name for name, _ in leftovers(folder) - before]
    if any(name.endswith(".draft") for name in left):
        return "saving a checkpoint"
    if left:
        return "deleting a checkpoint"
    status = lab.open_run(folder).status
    return "training" if status.get("stage") == "training" else "preparing"
