"""Memory: available bytes, fitting micro-batches, and runs that stop before memory runs out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch

import lab
from lab.policy import memory
from lab.run.config import TrainConfig
from lab.training.checkpoints.checkpoint import CheckpointError
from lab.training.control.memory_guard import GROWN, MemoryGuard, MemoryReading
from tests.training.measured_memory import measured
from tests.training.test_preflight import FAST, set_free_memory


@pytest.mark.extended
def test_micro_batch_size_fit_uses_the_size_that_the_advice_names(model_folder, rows, monkeypatch, tmp_path):
    settings = FAST | {"batch_size": 16, "steps": 3, "probe_budget": 0, "save_every": 1}
    whole = lab.preflight("dpo", rows, model_folder("llama"), **settings)
    free = int(0.6 * whole.memory.more)
    set_free_memory(monkeypatch, free)
    refused = lab.train("dpo", rows, model_folder("llama"), background=False, **settings)
    named = int(refused.error.split("micro_batch_size to ")[1].split()[0])
    assert lab.preflight("dpo", rows, model_folder("llama"), **settings | {"micro_batch_size": named}).memory.more <= free
    with pytest.raises(lab.ConfigError):
        lab.preflight("dpo", rows, model_folder("llama"), **settings | {"micro_batch_size": named + 1})
    run = lab.train("dpo", rows, model_folder("llama"), background=False, micro_batch_size="fit", **settings)
    assert (run.state, run.preflight().micro_batch_size, run.preflight().fitted) == ("finished", named, True)
    given = lab.train("dpo", rows, model_folder("llama"), background=False, micro_batch_size=named, **settings)
    assert run.scalars(["loss"]).equals(given.scalars(["loss"]))
    # Resumed with more memory free it keeps its micro-batch, as another one would round differently.
    for checkpoint in run.checkpoints()[1:]:
        shutil.rmtree(checkpoint)
    set_free_memory(monkeypatch, 10 * free)
    lab.train(run_dir=run.dir, resume=True, background=False)
    assert (run.preflight().micro_batch_size, run.preflight().done) == (named, 1)
    assert run.scalars(["loss"]).equals(given.scalars(["loss"]))
    set_free_memory(monkeypatch, 1000)
    run = lab.train("dpo", rows, model_folder("llama"), background=False, micro_batch_size="fit", **settings)
    assert run.state == "failed"
    assert "lower max_length" in run.error


@pytest.mark.parametrize("value", ["0", "-3", 2.5, "half", True, [1]])
def test_micro_batch_size_is_a_number_or_fit(value):
    with pytest.raises(lab.ConfigError, match=r"micro_batch_size = .* a whole number of pairs, at least 1, or fit"):
        TrainConfig.parse(objective="dpo", micro_batch_size=value)
    assert [TrainConfig.parse(objective="dpo", micro_batch_size=v).micro_batch for v in ("4", 4.0, "fit", None)] == [
        4,
        4,
        None,
        None,
    ]


def test_unusual_settings_are_findings_and_warnings(model_folder, rows):
    bold = {"learning_rate": 0.05, "batch_size": 8, "steps": 20, "held_out": 0}
    report = lab.preflight("dpo", rows[:6], model_folder("llama"), **FAST | bold | {"evaluate": True})
    expected = {finding.kind: finding.message for finding in report.findings}
    assert expected.keys() == {"learning_rate", "batch_larger_than_set", "many_epochs", "no_held_out"}
    assert "0.05 is above 0.01" in expected["learning_rate"]
    assert "the set of 6 pairs" in expected["batch_larger_than_set"]
    assert "26.7 times" in expected["many_epochs"]
    assert "held_out is 0" in expected["no_held_out"]
    assert all(any(message in line for line in report.lines()) for message in expected.values())
    run = lab.train("dpo", rows[:6], model_folder("llama"), background=False, **FAST | bold | {"evaluate": True, "steps": 15})
    findings = {finding.kind: finding.message for finding in run.preflight().findings}
    assert list(findings) == list(expected)
    warned = {detail["message"]: detail.get("diagnosed", False) for detail in run.events("warning")["detail"]}
    assert [kind for kind, message in findings.items() if message in warned] == list(expected)
    assert [kind for kind, message in findings.items() if warned[message]] == ["no_held_out"], "the diagnosis reports it"
    quiet = lab.preflight("dpo", rows, model_folder("llama"), **FAST | {"evaluate": True, "held_out": 0.2, "learning_rate": 0.01})
    assert quiet.findings == ()


def test_available_memory_respects_control_groups(monkeypatch, tmp_path):
    cpu = torch.device("cpu")
    own = tmp_path / "own"
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", own)

    def group(path, **values):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (tmp_path / path / f"memory.{name}").write_text(str(value))

    own.write_text("")
    free = memory.available_bytes(cpu)
    assert 10**6 < free < 2**45
    own.write_text("0::/outer/inner\n")
    group("outer", max=5000, current=4000, stat="anon 3000\ninactive_file 500\n")
    group("outer/inner", max="max", current=100)
    assert (memory.available_bytes(cpu), memory.memory_limit()) == (1500, 5000)  # inactive file cache counts as available
    own.write_text("4:memory:/job\n1:cpu:/other\n0::/\n")
    group("memory/job", limit_in_bytes=900, usage_in_bytes=200, stat="total_inactive_file 50\n")
    assert (memory.available_bytes(cpu), memory.memory_limit()) == (750, 900)
    group("memory/job", limit_in_bytes=2**63 - 4096, usage_in_bytes=200)
    assert memory.available_bytes(cpu) > 10**6


def test_memory_cached_by_torch_is_available(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert memory.available_bytes(torch.device("cuda")) == 1300


def test_a_run_stops_with_a_checkpoint_when_memory_runs_low(model_folder, rows, monkeypatch):
    """Memory becomes low after step 3."""
    left = [10**10]
    read = lambda: MemoryReading(left[0], 10**9 if left[0] > 10**9 else 10**9 + 2 * GROWN)  # noqa: E731
    monkeypatch.setattr("lab.training.loop.MemoryGuard", lambda: MemoryGuard(read=read, limit=2 * 10**10, interval=0.001))

    def on_step(step, scalars):
        if step == 3:
            left[0] = 10**8

    settings = FAST | {"steps": 2000, "batch_size": 2}
    run = lab.train("dpo", rows, model_folder("llama"), background=False, on_step=on_step, **settings)
    assert run.state == "stopped"
    assert 3 <= run.step < 2000
    assert "stopped itself because memory ran low: 100 MB of 20.0 GB were left" in run.stop_reason
    assert f"There is a checkpoint of its last step, {run.step}; resume" in run.stop_reason
    assert run.stop_reason in [detail["message"] for detail in run.events("warning")["detail"]]
    assert [int(folder.name[-6:]) for folder in run.checkpoints()] == [run.step]


@pytest.mark.parametrize("when", ["preparing", "saving"])
def test_the_stop_reason_mentions_a_checkpoint_only_if_it_was_saved(when, model_folder, rows, monkeypatch):
    low = lambda: "The run stopped itself because memory ran low."  # noqa: E731
    if when == "preparing":
        monkeypatch.setattr(MemoryGuard, "reason", lambda guard: low())
    else:
        reason = [None]
        monkeypatch.setattr(MemoryGuard, "reason", lambda guard: reason[0])
        monkeypatch.setattr("lab.training.checkpoints.saver.save_checkpoint", full_disk)
    on_step = None if when == "preparing" else lambda step, scalars: reason.__setitem__(0, low())
    run = lab.train("dpo", rows, model_folder("llama"), background=False, on_step=on_step, **FAST | {"steps": 50, "batch_size": 2})
    assert run.checkpoints() == []
    (warned,) = (detail["message"] for detail in run.events("warning")["detail"] if "memory ran low" in detail["message"])
    if when == "preparing":
        assert (run.state, run.stop_reason) == ("stopped", warned)
        assert "was still being prepared, so there was nothing to save" in warned
    else:
        assert (run.state, warned) == ("failed", low())
        assert "no room" in run.error


def full_disk(*args):
    raise CheckpointError("The checkpoint was not written: there is no room.")


CHILD = """
import sys
import lab
from lab.policy.memory import resident_bytes
from lab.training.control import memory_guard

budget, rows, held = resident_bytes() + 1_400_000_000, sys.argv[2], []
memory_guard.memory_limit = lambda: budget
memory_guard.available_bytes = lambda device: max(budget - resident_bytes(), 0)

def on_step(step, scalars):
    if step > 2:
        held.append(bytearray(b"x") * 10_000_000)

settings = {"steps": 5000, "batch_size": 2, "evaluate": False, "device": "cpu", "save_every": 0, "probe_budget": 0}
run = lab.train("dpo", rows, sys.argv[1], background=False, on_step=on_step, run_dir=sys.argv[3], **settings)
print(len(held))
"""
"""A run in a process that may use 1.4 GB more than at its start, and allocates 10 MB in every step."""


@pytest.mark.slow
def test_a_process_that_fills_its_memory_stops_with_a_checkpoint(model_folder, rows, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [sys.executable, "-c", CHILD, str(model_folder("llama")), str(pairs), str(tmp_path / "run")]
    child = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert child.returncode == 0, child.stderr
    run = lab.open_run(tmp_path / "run")
    assert run.state == "stopped", child.stderr
    assert 3 <= run.step < 5000
    assert "because memory ran low" in run.stop_reason
    assert int(child.stdout) >= 5, "the memory was really taken"
    assert [folder.name for folder in run.checkpoints()] == [f"step-{run.step:06d}"]


def test_a_process_that_does_not_grow_is_not_stopped():
    readings = iter([MemoryReading(10**9, 10**9), MemoryReading(10**7, 10**9), MemoryReading(10**7, 10**9 + GROWN + 1)])
    guard = MemoryGuard(read=lambda: next(readings), limit=10**10)
    reasons = []
    for _ in range(3):
        guard.check()
        reasons.append(guard.reason())
    assert reasons[:2] == [None, None]
    assert reasons[2] is not None


@pytest.mark.parametrize(
    ("shape", "settings"),
    [("gpt2 128 2 50257 60", {"steps": 2}), ("llama 512 4 2000 200", {"steps": 2, "micro_batch_size": 4})],
    ids=["vocabulary", "micro-batches"],
)
@pytest.mark.slow
def test_the_estimate_is_near_the_measured_peak(shape, settings, tmp_path):
    row = measured(tmp_path / "shape", shape, settings)
    assert 0.8 < row["estimated"] / row["measured"] < 1.2, row
