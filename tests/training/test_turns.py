"""Runs that take turns on a device: waiting, order, requests while they wait, and what a run finds when its turn comes."""

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
from lab.training.control.stopping import Stopped
from lab.training.distributed import Workers

LONG = {"steps": 100_000, "batch_size": 4, "save_every": 0, "device": "cpu", "probe_budget": 0, "eval_tokens": 8}


def until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def train(rows, model_folder, tmp_path):
    """train(name) starts a long run in a folder of that name; those that live at the end are stopped."""
    started = []

    def start(name, **settings):
        started.append(lab.train("dpo", rows, model_folder("llama"), run_dir=tmp_path / name, **LONG | settings))
        return started[-1]

    yield start
    for run in reversed(started):
        if run.state not in ("finished", "stopped", "failed", "dead"):
            run.stop()
    for run in started:
        run.wait(60)


@pytest.fixture
def busy(tmp_path):
    """Somebody else's run that trains on the CPU until it is let go."""
    other = tmp_path / "somebody"
    other.mkdir()
    lock = RunLock(other)
    DeviceQueue(home.queue_dir(), "cpu").advance(other)
    yield lock
    lock.release()


def places():
    return [(place.place, place.run.name) for place in lab.queue()]


def test_one_trains_the_others_wait_in_an_order_that_can_be_changed(train):
    first, second, third = train("first"), train("second"), train("third")
    until(lambda: first.step >= 2 and len(places()) == 3)
    assert places() == [(0, "first"), (1, "second"), (2, "third")]
    until(lambda: second.status["stage"] == "waiting for first on cpu, place 1")
    assert (second.state, second.step) == ("queued", 0)
    assert third.place.message == "place 2 on cpu, behind second"
    lab.open_run(third.dir).move(1)
    assert places() == [(0, "first"), (1, "third"), (2, "second")]
    with pytest.raises(RunError, match="not waiting"):
        first.move(1)
    first.stop()
    until(lambda: third.step >= 2)
    assert first.state == "stopped"
    assert second.step == 0
    until(lambda: second.status["stage"] == "waiting for third on cpu, place 1")
    second.stop()
    assert second.wait(10) == "stopped"
    assert second.place is None
    assert places() == [(0, "third")]


def test_it_says_that_the_one_it_waits_for_is_paused(train, caplog):
    first = train("first")
    until(lambda: first.step >= 1)
    first.pause()
    until(lambda: first.state == "paused")
    second = train("second")
    until(lambda: second.status.get("stage") == "waiting for first on cpu, which is paused, place 1")
    assert "second is waiting for first on cpu, which is paused, place 1; `python -m lab queue`" in caplog.text


def test_who_does_not_queue_starts_at_once(busy, train):
    run = train("impatient", queue=False)
    until(lambda: run.step >= 1)
    assert run.place is None


def test_paused_while_it_waits_it_lets_others_pass(busy, train):
    one = train("one")
    train("two")
    until(lambda: places() == [(0, "somebody"), (1, "one"), (2, "two")])
    one.pause()
    until(lambda: one.state == "paused")
    assert places() == [(0, "somebody"), (1, "two")]
    one.resume()
    until(lambda: one.state == "queued")
    assert places() == [(0, "somebody"), (1, "two"), (2, "one")]
    one.pause()
    until(lambda: one.state == "paused")
    one.stop()
    assert one.wait(10) == "stopped"
    assert list(one.events("request")["detail"].map(lambda d: d["request"])) == ["pause", "resume", "pause", "stop"]


def test_other_requests_wait_for_the_loop(busy, train):
    run = train("waits")
    until(lambda: run.place is not None)
    send(run.dir, "checkpoint")
    time.sleep(0.5)
    assert run.events("request").empty
    busy.release()  # it died: nobody has to clear up after it
    until(lambda: run.step >= 2)
    assert list(run.events("request")["detail"].map(lambda d: d["request"])) == ["checkpoint"]


def test_stopped_in_the_queue_and_resumed_it_just_begins(busy, train):
    run = train("waits", steps=3)
    until(lambda: run.place is not None)
    run.stop()
    assert run.wait(10) == "stopped"
    assert run.error is None
    busy.release()
    resumed = lab.train(run_dir=run.dir, resume=True, background=False)
    assert resumed.state == "finished", resumed.error
    assert resumed.events("warning", "resumed").empty
    assert lab.queue() == []


def test_a_run_that_fails_gives_the_device_up(train):
    run = train("fails", steps=50, learning_rate=1e9, max_grad_norm=0, warmup_ratio=0)
    assert run.wait(60) == "failed"
    assert lab.queue() == []


def test_a_device_that_is_not_here_fails_the_run(train):
    with pytest.raises(lab.ModelError, match="'cuda:7' cannot be used here"):
        train("nowhere", device="cuda:7")
    assert lab.runs() == []  # refused before it was made
    done = train("moved", steps=1)
    assert done.wait(60) == "finished"
    manifest = json.loads((done.dir / "run.json").read_text())
    (done.dir / "run.json").write_text(json.dumps(manifest | {"config": manifest["config"] | {"device": "cuda:7"}}))
    run = lab.train(run_dir=done.dir, resume=True)
    assert run.wait(60) == "failed"
    assert "'cuda:7' cannot be used here" in run.error


class Paired(Workers):
    """Two processes that are threads: what the first says is what the second hears."""

    message: queue.Queue[object] = queue.Queue()

    def broadcast(self, value):
        if self.is_main:
            self.message.put(value)
            return value
        return self.message.get(timeout=30)


@pytest.mark.parametrize("end", ["its turn", "a stop", "an error"])
def test_the_first_of_several_processes_waits_for_all(end, tmp_path, busy, monkeypatch):
    monkeypatch.setattr(Paired, "message", queue.Queue())
    folder = tmp_path / "run"
    folder.mkdir()
    first, other = (DeviceSlot(folder, home.queue_dir(), "cpu", Paired(rank, 2)) for rank in (0, 1))
    heard, store = [], StoreWriter(folder)
    lock = RunLock(folder)
    thread = threading.Thread(target=lambda: heard.append(other.wait_for_main()))
    thread.start()
    looks = iter(range(100))

    def look(seconds):
        """In the place of the time between two looks."""
        if next(looks) == 3:
            assert not heard  # it waits
            if end == "an error":
                raise OSError("The disk is full.")
            busy.release() if end == "its turn" else send(folder, "stop")

    monkeypatch.setattr("lab.training.control.device_slot.time.sleep", look)
    with contextlib.nullcontext() if end == "its turn" else pytest.raises(Stopped if end == "a stop" else OSError):
        first.wait(store)
    thread.join(30)
    assert heard == [end == "its turn"]
    first.free()
    store.close()
    lock.release()
