"""Idle threads and the garbage collector, in processes that only train and in others."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import pytest

import lab
from lab import process_settings

SCRIPT = """
import sys
from lab import process_settings
process_settings._others_work = lambda: {work}
{before}
print(process_settings.spin_where_idle())
import os
print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("given", "work", "before", "expected"),
    [
        ({}, 0.0, "", ["True", "None"]),
        ({}, 1.0, "", ["False", "PASSIVE"]),
        ({}, 0.0, "sys.modules['torch'] = None", ["False", "PASSIVE"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 0.0, "", ["False", "ACTIVE"]),
        ({"GOMP_SPINCOUNT": "5"}, 0.0, "", ["False", "None"]),
        ({"OMP_WAIT_POLICY": "PASSIVE", "LAB_SET_WAIT_POLICY": "1"}, 0.0, "", ["True", "None"]),  # as a detached run inherits it
        ({"WORLD_SIZE": "2"}, 0.0, "", ["False", "PASSIVE"]),
    ],
)
def test_who_spins(given, work, before, expected):
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "LAB_SET_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(work=work, before=before)],
        env=plain | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == expected


RUN = """
import atexit, gc, sys
atexit.register(lambda: print("frozen", gc.get_freeze_count() > 100_000, "on", gc.isenabled()))
from lab.__main__ import main
sys.argv[1:] = {arguments}
main()
"""


@pytest.fixture(autouse=True)
def collector_as_before():
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def test_objects_that_are_there_are_left_out_and_later_garbage_is_collected():
    process_settings.postpone_collector()
    assert not gc.isenabled()
    process_settings.resume_collector()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    cycle: list = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() > 0


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    process_settings.postpone_collector()
    process_settings.resume_collector()
    assert (gc.isenabled(), gc.get_freeze_count()) == (False, 0)


def test_a_run_in_a_notebook_changes_nothing(rows, model_folder):
    lab.train("dpo", rows, model_folder("llama"), steps=1, batch_size=2, evaluate=False, device="cpu", background=False)
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_a_process_that_trains_leaves_out_what_the_libraries_made(rows, model_folder, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ["train", "--objective", "dpo", "--pairs", str(pairs), "--model", str(model_folder("llama")),
                 "--run-dir", str(tmp_path / "run"), "--steps", "1", "--batch-size", "2", "--evaluate", "false",
                 "--device", "cpu", "--no-queue"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", RUN.format(arguments=arguments)], capture_output=True, text=True, timeout=300)
    assert "frozen True on True" in done.stdout, done.stderr
