"""The driver: order, workers, failures, interruption, extension, pause and stop, and its place in the device queue."""

from __future__ import annotations

import argparse
import errno
import signal
import threading

import pytest

from lab import sweeping
from lab.cli.sweep import follow_driver
from lab.experiments import Driver, Experiment
from lab.run import DeviceQueue, RunLock
from lab.run.requests import send
from lab.store import RunError
from tests.experiments.faked import WrittenRuns, content, finish, folder_with
from tests.helpers import until


@pytest.fixture
def executor():
    executor = WrittenRuns()
    yield executor
    executor.end()


def drive(folder, executor, **more):
    lock = RunLock(folder.path)
    try:
        return Driver(folder, executor, **more).run()
    finally:
        lock.release()


def in_background(folder, executor, **more):
    """A driver in a thread, and what it returns."""
    result = []
    thread = threading.Thread(target=lambda: result.append(drive(folder, executor, **more)))
    thread.start()
    return thread, result


def test_every_run_is_done_once(executor):
    folder = folder_with(content(["dpo", "sgdpo"], 2, steps=9))
    state = drive(folder, executor)
    keys = [run.key for run in folder.read().runs]
    assert (state.state, executor.started) == ("finished", keys)
    assert drive(folder, executor).state == "finished"
    assert executor.started == keys
    experiment = Experiment(folder)
    table = experiment.table()
    assert list(table["state"]) == ["finished"] * 4
    assert list(table["step"]) == [9] * 4
    assert experiment.state().state == "finished"
    assert {row.run for row in table.itertuples()} == {path.name for path in folder.run_folders().values()}


def test_an_extension_trains_only_what_is_new(executor):
    folder = folder_with(content("dpo", 2, steps=9))
    drive(folder, executor)
    before = list(executor.started)
    folder.write(content(["dpo", "sgdpo"], 3, steps=9))
    drive(folder, executor)
    new = [run.key for run in folder.read().runs if run.key not in before]
    assert executor.started == [*before, *new]
    assert len(new) == 4
    folder.write(content("dpo", 1, steps=9))
    assert len(Experiment(folder).earlier_runs()) == 5


def test_a_record_stays_when_the_run_is_deleted(executor):
    folder = folder_with(content("dpo", 1, steps=9))
    drive(folder, executor)
    (path,) = folder.run_folders().values()
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    assert drive(folder, executor).state == "finished"
    assert len(executor.started) == 1


def test_a_failed_run_is_named_and_the_others_go_on(executor):
    folder = folder_with(content("dpo", 3, steps=9))
    first, second, third = (run.key for run in folder.read().runs)
    executor.ends = {first: "failed"}
    executor.refused = {second: "The model is missing; give another folder."}
    state = drive(folder, executor)
    assert (state.state, executor.started) == ("failed", [first, third])
    assert {key: (run.state, run.error) for key, run in state.runs.items()} == {
        first: ("failed", "The loss is not finite."),
        second: ("failed", "The model is missing; give another folder."),
        third: ("finished", None),
    }
    assert drive(folder, executor).state == "failed"
    assert executor.started == [first, third]  # not again by itself
    executor.ends, executor.refused = {}, {}
    assert drive(folder, executor, retry=True).state == "finished"
    assert executor.started == [first, third, first, second]


@pytest.mark.parametrize("state", ["stopped", "crashed"])
def test_an_interrupted_run_is_continued_at_the_next_start(executor, state):
    folder = folder_with(content("dpo", 2, steps=9))
    first, second = (run.key for run in folder.read().runs)
    executor.ends = {first: "stopped" if state == "stopped" else "running"}  # running, but its lock is not held
    last = drive(folder, executor)
    assert (last.runs[first].state, executor.started) == (state, [first, second])
    executor.ends = {}
    assert drive(folder, executor).state == "finished"
    assert executor.started == [first, second, first]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("step", ["make", "start"])
def test_a_full_disk_ends_the_driver_and_not_every_run(executor, monkeypatch, step, wrapped):
    folder = folder_with(content(["dpo", "sgdpo"], 2, steps=5))

    def full(*arguments):
        error = OSError(errno.ENOSPC, "No space left on device", "run.json")
        if wrapped:
            raise RunError("The disk is full.") from error
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(executor, step, full)
        with pytest.raises(RunError, match=r"The disk is full: .*; free some space and resume"):
            Driver(folder, executor).run()
    assert Experiment(folder).state().count("failed") == 0
    assert Driver(folder, executor).run().count("finished") == 4


def test_as_many_runs_train_at_once_as_there_are_workers(executor):
    folder = folder_with(content("dpo", 3, steps=9, workers=2))
    keys = [run.key for run in folder.read().runs]
    executor.held = set(keys)
    thread, result = in_background(folder, executor)
    until(lambda: len(executor.started) == 2)
    experiment = Experiment(folder)
    state = until(lambda: (now := experiment.state()).count("running") == 2 and now)
    assert (state.state, state.count("waiting")) == ("running", 1)
    assert "2 in training (step 3 of 9, 3 of 9)" in state.line
    executor.held = set()
    finish(folder.run_folders()[keys[0]], 9)
    until(lambda: len(executor.started) == 3)
    finish(folder.run_folders()[keys[1]], 9)
    thread.join(20)
    assert result[0].state == "finished"


def test_runs_of_a_killed_driver_are_taken_over(executor):
    folder = folder_with(content("dpo", 2, steps=9))
    first, second = (run.key for run in folder.read().runs)
    executor.held = {first}
    thread, _ = in_background(folder, executor)
    until(lambda: Experiment(folder).state().count("running"))
    send(folder.path, "stop")  # the run does not obey, as if the driver had been killed without asking it
    until(lambda: Experiment(folder).state().state == "stopping")
    executor.end()
    thread.join(20)
    executor.held = set()
    assert Experiment(folder).state().state == "stopped"
    assert drive(folder, executor).state == "finished"
    assert executor.started == [first, first, second]


def test_a_run_in_training_is_not_started_twice(executor):
    folder = folder_with(content("dpo", 2, steps=9))
    first, second = folder.read().runs
    executor.group([first, second])
    path = folder.add_run(first)
    executor.make(first, path)
    executor.held = {first.key}
    executor.start([path])
    thread, result = in_background(folder, executor)
    until(lambda: Experiment(folder).state().count("running"))
    assert executor.started == [first.key]
    finish(path, 9)
    thread.join(20)
    assert (result[0].state, executor.started) == ("finished", [first.key, second.key])


def test_runs_that_waited_in_a_process_that_crashed_are_started_again(executor):
    """Of three runs in one process the first finishes, the second crashes it, and the third has not begun."""
    executor.size = 3
    folder = folder_with(content("dpo", 3, steps=9))
    first, second, third = (run.key for run in folder.read().runs)
    executor.ends = {second: "running", third: "waiting"}

    def report(state):
        if state.runs[third].state == "waiting" and len(executor.started) == 3:
            del executor.ends[third]

    state = drive(folder, executor, report=report)
    assert executor.started == [first, second, third, third]
    assert [run.state for run in state.runs.values()] == ["finished", "crashed", "finished"]


def test_a_process_that_ends_before_any_run_begins_is_not_started_again_and_again(executor):
    executor.size = 2
    folder = folder_with(content("dpo", 2, steps=9))
    executor.ends = {run.key: "waiting" for run in folder.read().runs}
    state = drive(folder, executor)
    assert state.count("crashed") == 2
    assert len(executor.started) == 2


def test_pause_starts_no_other_run(executor):
    folder = folder_with(content("dpo", 2, steps=9))
    first, second = (run.key for run in folder.read().runs)
    executor.held = {first}
    thread, _ = in_background(folder, executor)
    until(lambda: len(executor.started) == 1)
    experiment = Experiment(folder)
    experiment.pause()
    until(lambda: experiment.state().state == "paused")
    finish(folder.run_folders()[first], 9)
    until(lambda: experiment.state().count("finished") == 1)
    assert executor.started == [first]
    experiment.resume()
    thread.join(20)
    assert executor.started == [first, second]
    with pytest.raises(RunError, match="no process starts its runs, so it cannot pause"):
        experiment.pause()


def test_a_request_while_the_driver_begins_is_kept_and_an_earlier_one_is_not(executor):
    folder = folder_with(content(["dpo", "sgdpo"], 1))
    state = sweeping.drive(folder, executor=executor, began=lambda driver: send(folder.path, "stop"))
    assert (state.state, executor.started) == ("stopped", [])
    send(folder.path, "stop")  # nobody starts its runs
    assert sweeping.drive(folder, executor=executor).state == "finished"


def test_a_declaration_is_taken_over_while_the_driver_works(executor):
    folder = folder_with(content("dpo", 1, steps=9))
    (first,) = (run.key for run in folder.read().runs)
    executor.held = {first}
    thread, result = in_background(folder, executor)
    until(lambda: len(executor.started) == 1)
    folder.write(content("dpo", 3, steps=9))
    finish(folder.run_folders()[first], 9)
    thread.join(20)
    assert len(executor.started) == 3
    assert result[0].count("finished") == 3


def test_other_runs_get_the_device_in_between(executor, tmp_path):
    folder = folder_with(content("dpo", 3, steps=9))
    keys = [run.key for run in folder.read().runs]
    executor.held = {keys[0]}
    other = tmp_path / "other"
    other.mkdir()
    lock = RunLock(other)
    queue = DeviceQueue(tmp_path / "queue", "cpu")
    thread, _ = in_background(folder, executor, queue=DeviceQueue(tmp_path / "queue", "cpu"))
    until(lambda: len(executor.started) == 1)
    assert queue.advance(other).training == folder.path
    finish(folder.run_folders()[keys[0]], 9)
    until(lambda: queue.advance(other).training == other)
    assert executor.started == keys[:1]
    assert "waiting for other on cpu" in until(lambda: Experiment(folder).state().message)
    queue.leave(other)
    lock.release()
    thread.join(20)
    assert executor.started == keys
    assert queue.read().training is None


def test_a_signal_after_an_experiment_does_not_go_to_its_driver(lab_home):
    folder = folder_with(content(["dpo"], 1, steps=5), "mine")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    during = []

    class Sweeping:
        @staticmethod
        def drive(folder, *, retry, report, began):
            began(Driver(folder, WrittenRuns()))
            during.append(signal.getsignal(signal.SIGTERM))
            raise RunError("the disk is full")

    with pytest.raises(RunError):
        follow_driver(Sweeping, folder, argparse.Namespace(retry=False, json=False))
    assert during[0] != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
