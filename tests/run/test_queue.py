"""The line of runs that wait for a device: its order as pure functions, and its file between processes and their deaths."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lab.run import DeviceQueue, QueueState, RunLock, queues
from lab.store import RunError

A, B, C, D = (Path(f"/runs/{name}") for name in "abcd")


def test_places_count_from_the_run_that_trains():
    line = QueueState(A, (B, C))
    assert [line.place(run) for run in (A, B, C, D)] == [0, 1, 2, None]
    assert [line.ahead(run) for run in (A, B, C, D)] == [None, A, B, None]
    assert QueueState(None, (B,)).ahead(B) is None


@pytest.mark.parametrize(("place", "order"), [(1, (D, B, C)), (2, (B, D, C)), (3, (B, C, D)), (9, (B, C, D))])
def test_a_waiting_run_moves(place, order):
    assert QueueState(A, (B, C, D)).moved(D, place) == QueueState(A, order)


@pytest.mark.parametrize(("run", "place", "sentence"), [(A, 1, "not waiting"), (D, 1, "not waiting"), (B, 0, "no place 0")])
def test_what_cannot_move_is_said(run, place, sentence):
    with pytest.raises(RunError, match=sentence):
        QueueState(A, (B, C)).moved(run, place)


def test_only_the_next_one_gets_a_free_device():
    assert QueueState(None, (A, B)).advanced(B) == QueueState(None, (A, B))
    assert QueueState(None, (A, B)).advanced(A) == QueueState(A, (B,))
    assert QueueState(A, (B,)).advanced(B) == QueueState(A, (B,))
    assert QueueState(A, ()).advanced(C) == QueueState(A, (C,))  # somebody has deleted the file: it joins again


def test_a_run_that_joins_again_no_longer_trains():
    assert QueueState(A, (B,)).joined(A) == QueueState(None, (B, A))


class Queueing(RuleBasedStateMachine):
    """Runs that join, look, move, leave and die in any order, against a plain model: who looked successfully trains alone."""

    @initialize()
    def begin(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.alive: set[Path] = set()
        self.owner: Path | None = None
        self.queue = DeviceQueue(Path(self.temporary.name), "cpu", is_alive=self.alive.__contains__)

    def teardown(self):
        if hasattr(self, "temporary"):
            self.temporary.cleanup()

    @rule(run=some.sampled_from([A, B, C, D]))
    def join(self, run):
        if run == self.owner:
            return
        self.alive.add(run)
        assert self.queue.join(run).waiting[-1] == run

    @rule(run=some.sampled_from([A, B, C, D]))
    def look(self, run):
        if run not in self.alive:
            return
        before = self.queue.read()
        line = self.queue.advance(run)
        if line.training == run and self.owner != run:
            assert self.owner is None
            assert before.waiting[:1] in ((run,), ())
            self.owner = run

    @rule(run=some.sampled_from([A, B, C, D]), place=some.integers(1, 5))
    def move(self, run, place):
        before = self.queue.read()
        if run in before.waiting:
            after = self.queue.move(run, place)
            assert after.place(run) == min(place, len(before.waiting))
            assert [r for r in after.waiting if r != run] == [r for r in before.waiting if r != run]

    @rule(run=some.sampled_from([A, B, C, D]), killed=some.booleans())
    def end(self, run, killed):
        if run in self.alive and not killed:
            self.queue.leave(run)
        self.alive.discard(run)
        if run == self.owner:
            self.owner = None

    @invariant()
    def one_trains_and_the_living_wait_once(self):
        if not hasattr(self, "queue"):
            return
        line = self.queue.read()
        assert line.training == self.owner
        assert len(set(line.waiting)) == len(line.waiting)
        assert set(line.waiting) <= self.alive - {self.owner}


Queueing.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestQueueing = Queueing.TestCase


def test_a_killed_owner_blocks_nobody(tmp_path):
    runs = [tmp_path / "killed", tmp_path / "next"]
    for run in runs:
        run.mkdir()
    queue = DeviceQueue(tmp_path / "queue", "cpu")
    code = (
        "import sys, time; from pathlib import Path; from lab.run import DeviceQueue, RunLock\n"
        f"lock = RunLock(Path({str(runs[0])!r})); queue = DeviceQueue(Path({str(queue._path.parent)!r}), 'cpu')\n"
        f"print(queue.advance(Path({str(runs[0])!r})).training, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() == str(runs[0])
    lock = RunLock(runs[1])
    line = queue.advance(runs[1])
    assert (line.training, line.waiting) == (runs[0], (runs[1],))
    child.kill()
    child.wait()
    assert queue.read() == QueueState(None, (runs[1],))
    assert queue.advance(runs[1]) == QueueState(runs[1])
    lock.release()
    assert queue.read() == QueueState()


def test_many_at_once_lose_nobody(tmp_path):
    runs = [tmp_path / f"run-{i}" for i in range(24)]
    queue = DeviceQueue(tmp_path / "queue", "cpu", is_alive=lambda run: True)
    threads = [
        threading.Thread(target=DeviceQueue(tmp_path / "queue", "cpu", is_alive=lambda run: True).join, args=(run,)) for run in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(queue.read().waiting) == set(runs)


def test_half_a_file_begins_anew_and_is_said(tmp_path, caplog):
    (tmp_path / "cpu.json").write_text('{"training": ')
    queue = DeviceQueue(tmp_path, "cpu", is_alive=lambda run: True)
    assert queue.advance(A) == QueueState(A)
    assert "the queue starts empty" in caplog.text
    assert [one.device for one in queues(tmp_path)] == ["cpu"]


TURNS = """
import sys, time
from pathlib import Path
from lab.run import DeviceQueue, RunLock
home, run = Path(sys.argv[1]), Path(sys.argv[2])
lock, queue = RunLock(run), DeviceQueue(home, "cpu")
for _ in range(15):
    queue.join(run)
    while queue.advance(run).training != run:
        time.sleep(0.001)
    (home / "inside").open("x").close()  # fails if somebody else is inside
    time.sleep(0.002)
    (home / "inside").unlink()
    queue.leave(run)
print("done")
"""


def test_processes_never_have_the_device_at_once(tmp_path):
    runs = [tmp_path / name for name in "abc"]
    for run in runs:
        run.mkdir()
    children = [
        subprocess.Popen([sys.executable, "-c", TURNS, str(tmp_path / "queue"), str(run)], stdout=subprocess.PIPE, text=True)
        for run in runs
    ]
    assert [child.communicate(timeout=60)[0] for child in children] == ["done\n"] * 3
    assert DeviceQueue(tmp_path / "queue", "cpu").read() == QueueState()
