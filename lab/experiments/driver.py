"""Start the runs of an experiment, some at once, until all are done; survives the failure of any of them.

The driver keeps nothing in memory that matters: what is done follows from records and run folders. If its process is killed, the
runs that it started go on, and the next driver takes them over.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lab.run import DeviceQueue, Run, is_held, take
from lab.run.requests import PAUSING, send
from lab.store import ENDED, RunError, StoreReader
from lab.store.durable import disk_problem, whole_disk_affected
from lab.store.folder import RUN_FILE, NoStoreError

from .folder import Content, ExperimentFolder
from .plan import PlannedRun
from .progress import ACTIVE, FAILED, FINISHED, WAITING, ExperimentState, RunState, remaining_seconds
from .records import drop_checkpoints, record_of

log = logging.getLogger(__name__)

INTERVAL = 0.3
"""Seconds between two looks at the runs."""


class RunExecutor(Protocol):
    """Make and train runs. The driver observes them through their folders, so an executor returns at once and reports nothing."""

    def group(self, runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
        """Divide runs into groups that one process trains together, in the order in which they are to be started."""

    def make(self, run: PlannedRun, folder: Path) -> None:
        """Make the folder of a run. Raises ValueError (with one sentence) if its settings are not possible."""

    def start(self, folders: Sequence[Path]) -> None:
        """Start the process that trains a group of runs, from their latest checkpoints or their beginning."""


@dataclass
class _Active:
    """A run with a process."""

    handle: Run
    group: int
    began: float
    whole: bool


class Driver:
    """Runs an experiment in the calling thread.

    Args:
        folder: Folder of the experiment; the caller holds its lock.
        executor: Makes and starts runs.
        queue: Queue of the device, in which the experiment takes one place for all of its runs; None starts at once.
        retry: Whether to begin failed runs again.
        report: Receives the state after every look.
    """

    def __init__(
        self,
        folder: ExperimentFolder,
        executor: RunExecutor,
        *,
        queue: DeviceQueue | None = None,
        retry: bool = False,
        report: Callable[[ExperimentState], None] = lambda state: None,
    ) -> None:
        self.folder, self.executor, self.queue, self.report = folder, executor, queue, report
        self.content: Content = folder.read()
        self._read_at = folder.changed
        self._retry = retry
        self._paused = self._stopping = False
        self._active: dict[str, _Active] = {}
        self._tried: set[str] = set()
        self._groups = 0
        self._group_folders: dict[int, dict[str, Path]] = {}
        self._used_turn = False
        self._message = ""
        self._durations: dict[str, float] = {}
        self._states: dict[str, RunState] = {}
        self._find_states()

    def stop(self) -> None:
        """Stop the runs with a checkpoint, and end. May be called from a signal handler."""
        self._stopping = True

    def run(self) -> ExperimentState:
        """Start runs until none is left or a stop is requested, and return the last state.

        Raises:
            RunError: If the disk is full or fails; the runs in training go on, and the next driver continues.
        """
        told_to_stop: set[str] = set()
        try:
            while True:
                self._take_requests()
                self._read_again()
                self._look()
                if self._stopping:
                    for key, active in self._active.items():
                        if key not in told_to_stop:
                            _ask(active.handle, "stop")
                            told_to_stop.add(key)
                elif not self._paused:
                    self._start_next()
                state = self._write_state()
                if not self._active and (self._stopping or not (self._paused or self._due())):
                    return state
                time.sleep(INTERVAL)
        finally:
            if self.queue is not None:
                with contextlib.suppress(OSError):  # the others see from the lock that this experiment has ended
                    self.queue.leave(self.folder.path)

    def _take_requests(self) -> None:
        for request in take(self.folder.path, PAUSING):
            if request.kind == "stop":
                self._stopping = True
            elif self._paused != (request.kind == "pause"):
                self._paused = request.kind == "pause"
                for active in self._active.values():
                    _ask(active.handle, request.kind)

    def _read_again(self) -> None:
        """Take over a declaration that was changed meanwhile."""
        if self.folder.changed != self._read_at:
            self._read_at = self.folder.changed
            self.content = self.folder.read()
            self._find_states()

    def _find_states(self) -> None:
        """Find the state of every run from records, folders and the last driver's state."""
        folders, recorded = self.folder.run_folders(), self.folder.recorded()
        before = (self.folder.state() or ExperimentState(WAITING)).runs
        for run in self.content.runs:
            if run.key in self._active or run.key in self._states:
                continue
            steps, folder = run.config.steps, folders.get(run.key)
            if folder is None and (self.folder.place_of(run) / RUN_FILE).exists():  # of a deleted experiment of this name
                folder = self.folder.add_run(run)
            state = RunState(WAITING, steps=steps)
            if run.key in recorded:
                record = self.folder.record(run.key) or {}
                state = RunState(FINISHED, steps, steps, record.get("wall"), run=record.get("run", ""))
                if state.seconds:
                    self._durations[run.key] = state.seconds
            elif folder is not None and (folder / RUN_FILE).exists():
                state = self._state_of_folder(run, folder)
            elif (failed := before.get(run.key)) is not None and failed.state == FAILED and not self._retry:
                state = failed  # it could not even be made
            self._states[run.key] = state

    def _state_of_folder(self, run: PlannedRun, folder: Path) -> RunState:
        steps = run.config.steps
        try:
            handle = Run(folder)
            state = handle.state
        except NoStoreError:  # made, but never started
            return RunState(WAITING, steps=steps, run=folder.name)
        except (RunError, OSError) as error:
            return RunState(FAILED, steps=steps, error=str(error), run=folder.name)
        except sqlite3.Error as error:
            problem = f"The store of the run in {folder} cannot be read ({error}); delete the folder, and begin it again: --retry."
            return RunState(FAILED, steps=steps, error=problem, run=folder.name)
        if state not in ENDED:  # the last driver was killed, and its run goes on
            self._groups += 1
            self._group_folders[self._groups] = {run.key: folder}
            self._active[run.key] = _Active(handle, self._groups, time.monotonic(), whole=False)
            self._tried.add(run.key)
        elif state == FINISHED:
            self._keep(run, handle, None)
        return RunState(state, handle.step, steps, error=handle.error, run=folder.name)

    def _due(self) -> list[PlannedRun]:
        """Return the runs that are still to be started."""
        return [
            run
            for run in self.content.runs
            if run.key not in self._tried
            and (self._states[run.key].state not in (FINISHED, FAILED) or (self._retry and self._states[run.key].state == FAILED))
        ]

    def _start_next(self) -> None:
        due = self._due()
        used = len({active.group for active in self._active.values()})
        if not due or used >= self.content.workers or not self._has_device():
            return
        for group in self.executor.group(due)[: self.content.workers - used]:
            self._start(group)

    def _has_device(self) -> bool:
        """Whether runs may be started now: this experiment has the device, and nothing else waits for it.

        Where something waits, the runs in training are brought to their end, and then the experiment goes to the end of the queue.
        """
        if self.queue is None:
            return True
        line = self.queue.advance(self.folder.path)
        if line.training == self.folder.path and line.waiting:
            if not self._active and self._used_turn:
                self._used_turn = False
                self.queue.leave(self.folder.path)
                line = self.queue.advance(self.folder.path)
            elif self._active:
                self._message = f"waiting for its runs to end, since {line.waiting[0].name} waits for {self.queue.device}"
                return False
        has = line.training == self.folder.path
        ahead = line.ahead(self.folder.path)
        self._message = "" if has or ahead is None else f"waiting for {ahead.name} on {self.queue.device}"
        return has

    def _start(self, group: Sequence[PlannedRun]) -> None:
        ready = []
        self._used_turn = True
        for run in group:
            self._tried.add(run.key)
            try:
                folder = self.folder.add_run(run)
                if not (folder / RUN_FILE).exists():
                    self.executor.make(run, folder)
                ready.append((run, folder))
            except (ValueError, OSError, sqlite3.Error) as error:
                _raise_if_of_the_disk(error)
                self._states[run.key] = RunState(FAILED, steps=run.config.steps, error=" ".join(str(error).split()))
        if not ready:
            return
        began = time.monotonic()
        fresh = {run.key: self._states[run.key].step == 0 for run, _ in ready}
        refused: str | None = None
        try:
            self.executor.start([folder for _, folder in ready])
        except (ValueError, OSError, RuntimeError, sqlite3.Error) as error:
            _raise_if_of_the_disk(error)
            refused = " ".join(str(error).split())
        self._groups += 1
        self._group_folders[self._groups] = {run.key: folder for run, folder in ready}
        for run, folder in ready:
            if refused is None or is_held(folder):  # held: another process has begun to train it
                self._active[run.key] = _Active(Run(folder), self._groups, began, fresh[run.key])
            else:
                self._states[run.key] = RunState(FAILED, steps=run.config.steps, error=refused, run=folder.name)

    def _look(self) -> None:
        """Read the state of the runs with a process."""
        planned = {run.key: run for run in self.content.runs}
        for key, active in list(self._active.items()):
            run = planned.get(key)
            try:
                state, step, error = active.handle.state, active.handle.step, active.handle.error
            except (RunError, OSError, sqlite3.Error) as problem:  # deleted, or its disk fails
                state, step, error = FAILED, 0, str(problem)
            seconds = time.monotonic() - active.began
            steps = run.config.steps if run else active.handle.manifest["config"]["steps"]
            if state in ENDED:
                del self._active[key]
                for other in self._active.values():  # the rest of its group has waited for it, or begins with it
                    if other.group == active.group:
                        other.began = time.monotonic()
                if state == FINISHED and run is not None:
                    self._keep(run, active.handle, seconds if active.whole else None)
            self._states[key] = RunState(state, step, steps, seconds if active.whole else None, error, active.handle.dir.name)
            if state == "crashed" and self._was_only_waiting(key, active):
                self._tried.discard(key)
                self._states[key] = RunState(WAITING, steps=steps, run=active.handle.dir.name)

    def _was_only_waiting(self, key: str, active: _Active) -> bool:
        """Whether a run's process ended while it trained another run of the group, so that this one is to be started again."""
        others = [folder for other, folder in self._group_folders[active.group].items() if other != key]
        return _stored_state(active.handle.dir) == "queued" and any(_stored_state(folder) != "queued" for folder in others)

    def _keep(self, run: PlannedRun, handle: Run, wall: float | None) -> None:
        """Store the record of a finished run."""
        self.folder.write_record(run.key, record_of(handle, wall))
        if wall:
            self._durations[run.key] = wall
        if not self.content.keep_checkpoints:
            drop_checkpoints(handle)

    def _write_state(self) -> ExperimentState:
        runs = {run.key: self._states[run.key] for run in self.content.runs}
        left = remaining_seconds(self.content.runs, runs, self._durations, self.content.workers)
        state = ExperimentState("", self._message, runs, left, self.content.workers)
        state = replace(state, state=self._name_of(state))
        self.folder.write_state(state.as_json())
        self.report(state)
        return state

    def _name_of(self, state: ExperimentState) -> str:
        if self._active or (self._due() and not self._stopping):
            if self._stopping:
                return "stopping"
            return "paused" if self._paused else "running" if self._active or not self._message else WAITING
        if self._stopping and self._due():
            return "stopped"
        return outcome_of(state)


def outcome_of(state: ExperimentState) -> str:
    """Return finished, failed or stopped for an experiment without a driver, from the states of its runs."""
    if state.count(FINISHED) == len(state.runs):
        return FINISHED
    return FAILED if state.count(FINISHED, FAILED, "crashed") == len(state.runs) else "stopped"


def _raise_if_of_the_disk(error: BaseException) -> None:
    """Raise a RunError for a full or failing disk, which would let every other run fail, too; they are continued later."""
    cause = error.__cause__ or error
    if whole_disk_affected(cause):  # a folder that cannot be written or read may be that of one run
        raise RunError(disk_problem(cause)) from None


def _stored_state(folder: Path) -> str | None:
    """Return the state in a run's store, which is "queued" until the run has begun to train."""
    try:
        state: str | None = StoreReader(folder).status().get("state")
    except (OSError, sqlite3.Error):
        return None
    return state


def _ask(run: Run, kind: str) -> None:
    with contextlib.suppress(RunError):  # it has ended meanwhile
        if run.state in ACTIVE:
            send(run.dir, kind)
