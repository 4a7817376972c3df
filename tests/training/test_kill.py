"""kill -9 at any moment, a hundred times over all objectives: every run goes on to the numbers of one that was left in peace."""

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
from tests.training.comparing import assert_same

KILLS = 4
"""Of every run; 26 objectives make 104."""

PATIENCE = 120.0

kills: Counter[str] = Counter()
"""What was going on when they struck, over all runs."""


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
    peaceful, victim = tmp_path / "peaceful", tmp_path / "victim"

    def start(place: Path) -> multiprocessing.Process:
        process = forking.Process(target=trial.train, args=(place, objective, model_folder("llama"), data))
        process.start()
        return process

    began = time.monotonic()
    process = start(peaceful)
    process.join(PATIENCE)
    assert process.exitcode == 0
    whole = lab.open_run(peaceful / "run")
    assert whole.state == "finished", whole.error
    assert whole.events("change", "edit")["step"].tolist() == [3, 5]
    lasted = time.monotonic() - began

    struck = 0
    while struck < KILLS:
        left = leftovers(victim / "run")
        process = start(victim)
        wait_for_a_random_moment(victim / "run", moments, lasted, lambda process=process: process.is_alive())
        process.kill()
        process.join(PATIENCE)
        if process.exitcode == 0:  # it was faster
            shutil.rmtree(victim)
            continue
        assert process.exitcode == -signal.SIGKILL
        struck += 1
        kills[phase(victim / "run", left)] += 1
        for path in [*victim.glob("run/*.sqlite"), *victim.glob("cache/reference/*.sqlite"), *victim.glob("home/pairs/*.sqlite")]:
            with closing(sqlite3.connect(path)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
    process = start(victim)
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert_same(lab.open_run(victim / "run"), whole)


def wait_for_a_random_moment(folder: Path, moments: random.Random, lasted: float, alive: Callable[[], bool]) -> None:
    """Any moment, or one at which a checkpoint is written or deleted, or the store; never longer than the process lives."""
    kind = moments.choice(["any", "any", "any", "saving", "deleting", "store"])
    if kind == "any":
        time.sleep(moments.random() * lasted)
        return
    looks = {
        "saving": lambda: [path.stat().st_ino for path in folder.glob("checkpoints/.*.draft")],
        "deleting": lambda: [path.stat().st_ino for path in folder.glob("checkpoints/.step-*") if path.suffix != ".draft"],
        "store": lambda: [path.stat().st_size for path in folder.glob("run.sqlite-wal")],
    }
    skip = moments.randrange(6)  # so that not always the first is met
    before = None
    while alive():
        try:
            found = looks[kind]()
        except OSError:  # gone between the two looks
            continue
        if found and found != before:
            before, skip = found, skip - 1
        if skip < 0:
            time.sleep(moments.random() * 0.01)
            return
        time.sleep(0.0002)


def leftovers(folder: Path) -> set[tuple[str, int]]:
    """Folders under a name of their own, in which a checkpoint is written or deleted."""
    return {(path.name, path.stat().st_ino) for path in folder.glob("checkpoints/.step-*")}


def phase(folder: Path, before: set[tuple[str, int]]) -> str:
    """What a process was at when it was killed, from what it left."""
    if not (folder / "run.sqlite").exists():
        return "making the run"
    left = [name for name, _ in leftovers(folder) - before]
    if any(name.endswith(".draft") for name in left):
        return "saving a checkpoint"
    if left:
        return "deleting a checkpoint"
    status = lab.open_run(folder).status
    return "training" if status.get("stage") == "training" else "preparing"
