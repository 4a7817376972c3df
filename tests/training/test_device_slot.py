"""The queue of a device: order of the runs, requests while they wait, and several processes of one run."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time

import pytest

import lab
from lab import home
from lab.run import DeviceQueue, RunLock, send
from lab.store import RunError, StoreWriter
from lab.training.control.device_slot import DeviceSlot
from lab.training.control.stopped import Stopped
from lab.training.distributed import Workers
from tests.helpers import until

LONG = {"steps": 100_000, "batch_size": 4, "save_every": 0, "device": "cpu", "probe_budget": 0, "eval_tokens": 8}


@pytest.fixture
def train(rows, model_folder, tmp_path):
    """Return a function that starts a long run in a folder of a given name; runs are stopped at the end of the test."""
    started = []

    def start(name, **settings):
        started.append(lab.train("dpo", rows, model_folder("llama"), run_dir=tmp_path / name, **LONG | settings))
        return started[-1]

    yield start
    for run in reversed(started):
        if run.state not in ("finished", "stopped", "failed", "crashed"):
            run.stop()
    for run in started:
        run.wait(60)


@pytest.fixture
def occupied(tmp_path):
    """Let another program's run train on the CPU until the returned lock is released."""
    other = tmp_path / "other"
    other.mkdir()
    lock = RunLock(other)
    DeviceQueue(home.queue_dir(), "cpu").advance(other)
    yield lock
    lock.release()


def places():
    return [(place.place, place.run.name) for place in lab.queue()]


def test_waiting_runs_can_be_reordered(train):
    first, second, third = train("first"), train("second"), train("third")
    until(lambda: first.step >= 2 and len(places()) == 3, run=first)
    assert places() == [(0, "first"), (1, "second"), (2, "third")]
    until(lambda: second.status["stage"] == "waiting for first on cpu, place 1", run=second)
    assert (second.state, second.step) == ("queued", 0)
    assert third.place.message == "place 2 on cpu, behind second"
    lab.open_run(third.dir).move(1)
    assert places() == [(0, "first"), (1, "third"), (2, "second")]
    with pytest.raises(RunError, match="not waiting"):
        first.move(1)
    first.stop()
    until(lambda: third.step >= 2, run=third)
    assert first.state == "stopped"
    assert second.step == 0
    until(lambda: second.status["stage"] == "waiting for third on cpu, place 1", run=second)
    second.stop()
    assert second.wait(10) == "stopped"
    assert second.place is None
    assert places() == [(0, "third")]


def test_the_stage_of_a_waiting_run_names_a_paused_run_ahead(train, caplog):
    first = train("first")
    until(lambda: first.step >= 1, run=first)
    first.pause()
    until(lambda: first.state == "paused", run=first)
    second = train("second")
    until(lambda: second.status.get("stage") == "waiting for first on cpu, which is paused, place 1", run=second)
    assert "second is waiting for first on cpu, which is paused, place 1; `python -m lab queue`" in caplog.text


def test_queue_false_starts_at_once(occupied, train):
    run = train("impatient", queue=False)
    until(lambda: run.step >= 1, run=run)
    assert run.place is None


def test_a_paused_run_leaves_the_queue(occupied, train):
    run = train("one")
    train("two")
    until(lambda: places() == [(0, "other"), (1, "one"), (2, "two")], run=run)
    run.pause()
    until(lambda: run.state == "paused", run=run)
    assert places() == [(0, "other"), (1, "two")]
    run.resume()
    until(lambda: run.state == "queued", run=run)
    assert places() == [(0, "other"), (1, "two"), (2, "one")]
    run.pause()
    until(lambda: run.state == "paused", run=run)
    run.stop()
    assert run.wait(10) == "stopped"
    assert list(run.events("request")["detail"].map(lambda d: d["request"])) == ["pause", "resume", "pause", "stop"]


def test_other_requests_stay_until_the_run_trains(occupied, train):
    run = train("waits")
    until(lambda: run.place is not None, run=run)
    send(run.dir, "checkpoint")
    time.sleep(0.5)
    assert run.events("request").empty
    occupied.release()  # as if its process had been killed: the queue entry stays
    until(lambda: run.step >= 2, run=run)
    assert list(run.events("request")["detail"].map(lambda d: d["request"])) == ["checkpoint"]


def test_a_run_stopped_in_the_queue_can_be_resumed(occupied, train):
    run = train("waits", steps=3)
    until(lambda: run.place is not None, run=run)
    run.stop()
    assert run.wait(10) == "stopped"
    assert run.error is None
    occupied.release()
    resumed = lab.train(run_dir=run.dir, resume=True, background=False)
    assert resumed.state == "finished", resumed.error
    assert resumed.events("warning", "resumed").empty
    assert lab.queue() == []


def test_a_failed_run_frees_its_device(train):
    run = train("fails", steps=50, learning_rate=1e9, max_grad_norm=0, warmup_ratio=0)
    assert run.wait(60) == "failed"
    assert lab.queue() == []


def test_a_missing_device_is_refused_or_fails_a_resumed_run(train):
    with pytest.raises(lab.ModelError, match="'cuda:7' cannot be used here"):
        train("nowhere", device="cuda:7")
    assert lab.runs() == []  # refused before it was created
    done = train("moved", steps=1)
    assert done.wait(60) == "finished"
    manifest = json.loads((done.dir / "run.json").read_text())
    (done.dir / "run.json").write_text(json.dumps(manifest | {"config": manifest["config"] | {"device": "cuda:7"}}))
    run = lab.train(run_dir=done.dir, resume=True)
    assert run.wait(60) == "failed"
    assert "'cuda:7' cannot be used here" in run.error


class Paired(Workers):
    """Two threads in the place of two processes."""

    messages: queue.Queue[object] = queue.Queue()

    def broadcast(self, value):
        if self.is_main:
            self.messages.put(value)
            return value
        return self.messages.get(timeout=30)


@pytest.mark.parametrize("end", ["device free", "stop", "error"])
def test_the_main_process_waits_for_the_device_of_all(end, tmp_path, occupied, monkeypatch):
    monkeypatch.setattr(Paired, "messages", queue.Queue())
    folder = tmp_path / "run"
    folder.mkdir()
    first, other = (DeviceSlot(folder, home.queue_dir(), "cpu", Paired(rank, 2)) for rank in (0, 1))
    results, store = [], StoreWriter(folder)
    lock = RunLock(folder)
    thread = threading.Thread(target=lambda: results.append(other.wait_for_main()))
    thread.start()
    checks = iter(range(100))

    def sleep(seconds):
        if next(checks) == 3:
            assert not results  # the other process waits
            if end == "error":
                raise OSError("The disk is full.")
            occupied.release() if end == "device free" else send(folder, "stop")

    monkeypatch.setattr("lab.training.control.device_slot.time.sleep", sleep)
    with contextlib.nullcontext() if end == "device free" else pytest.raises(Stopped if end == "stop" else OSError):
        first.wait(store)
    thread.join(30)
    assert results == [end == "device free"]
    first.free()
    store.close()
    lock.release()
