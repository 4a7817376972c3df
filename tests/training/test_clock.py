"""Durations come from a monotonic clock."""

from __future__ import annotations

import time

import lab

SETTINGS = {"steps": 8, "batch_size": 4, "save_every": 4, "device": "cpu", "evaluate": False}


def test_setting_the_system_clock_back_does_not_change_times(model_folder, rows, monkeypatch):
    now, moved = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: now() + moved[0])

    def on_step(step, scalars):
        moved[0] = -7200.0 if step == 3 else moved[0]

    began = time.monotonic()
    run = lab.train("dpo", rows, model_folder("llama"), background=False, on_step=on_step, **SETTINGS)
    took = time.monotonic() - began
    clock = run.scalars(["seconds/clock"])["seconds/clock"]
    assert clock.is_monotonic_increasing
    assert 0 < clock.iloc[0] <= clock.iloc[-1] < took + 1
    assert 0 <= run.status["remaining"] < took + 1


def test_the_clock_of_a_resumed_run_continues(model_folder, rows, monkeypatch):
    def on_step(step, scalars):
        if step == 5:
            time.sleep(1)
            lab.open_run(lab.runs()[0].dir).stop()

    run = lab.train("dpo", rows, model_folder("llama"), background=False, on_step=on_step, **SETTINGS)
    assert (run.state, run.step) == ("stopped", 5)
    before = run.scalars(["seconds/clock"])["seconds/clock"]
    assert before.iloc[-1] < 60
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7200)
    began = time.monotonic()
    lab.train(run_dir=run.dir, resume=True, background=False)
    took = time.monotonic() - began
    after = run.scalars(["seconds/clock"])["seconds/clock"]
    assert after.is_monotonic_increasing
    assert after.iloc[:5].equals(before)
    assert 1 <= after.iloc[5] - before.iloc[-1] <= took + 10, "the second after step 5 counts"
