"""Experiments whose runs are written at once instead of trained: the driver sees the same folders, stores and locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.experiments import Content, ExperimentFolder, PairSet, PlannedRun, declare, experiment_folder
from lab.run import RunLock
from lab.store import StoreWriter
from lab.training.run_folder import create_run

MOMENT = "2026-01-31T12:00:00"
PAIRS = {"world": PairSet("nowhere", 1, "world")}

Evaluations = Callable[[PlannedRun], list[tuple[int, dict[str, float], dict[str, list[Any]]]]]
"""Step, scalars and values by prompt of each evaluation of a run."""


def content(objectives: Any, seeds: Any, *, workers: int = 1, compare: Any = None, **settings: Any) -> Content:
    """The content of an experiment's folder, on pairs that nobody opens."""
    return Content(declare(objectives, seeds, settings, None, compare), PAIRS, MOMENT, MOMENT, workers=workers)


def folder_with(declared: Content, name: str = "mine") -> ExperimentFolder:
    folder = experiment_folder(name)
    folder.write(declared)
    return folder


def no_evaluations(run: PlannedRun) -> list[Any]:
    return []


def write_run(folder: Path, state: str, step: int, evaluations: Sequence[Any] = (), error: str | None = None) -> None:
    """Write into a run's folder what training leaves there."""
    store = StoreWriter(folder)
    for at, scalars, by_prompt in evaluations:
        store.event(at, "evaluation", **scalars, by_prompt=by_prompt)
    store.status(state=state, stage=state, step=step, error=error, seconds=1.0)
    store.close()


class WrittenRuns:
    """An executor that finishes each run when it is started.

    Attributes:
        started: The keys of the runs that were started, in order.
        ends: Key -> state in which a run ends, if not finished.
        size: Runs of a group.
        held: Keys of runs that go on: a process of their own holds their lock.
    """

    def __init__(self, evaluations: Evaluations = no_evaluations, size: int = 1) -> None:
        self.evaluations = evaluations
        self.size = size
        self.started: list[str] = []
        self.ends: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.held: set[str] = set()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._runs: dict[Path, PlannedRun] = {}

    def group(self, runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
        for run in runs:
            self._runs.setdefault(Path(run.key), run)
        return [list(runs[first : first + self.size]) for first in range(0, len(runs), self.size)]

    def make(self, run: PlannedRun, folder: Path) -> None:
        if run.key in self.refused:
            raise ValueError(self.refused[run.key])
        create_run(folder, run.config, pairs_name="world", pairs_store="nowhere", pairs_version=1)

    def start(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            run = self._runs[Path(folder.name.rpartition("-")[2])]
            if run.key in self.held:
                write_run(folder, "running", 3)
                lock = RunLock(folder)
                self.processes.append(
                    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], pass_fds=[lock.descriptor])
                )
                lock.release()
                self.started.append(run.key)
                continue
            state = self.ends.get(run.key, "finished")
            steps = run.config.steps if state == "finished" else 3
            if state == "waiting":  # its process ended before its turn came
                write_run(folder, "queued", 0)
                self.started.append(run.key)
                continue
            error = "The loss is not finite." if state == "failed" else None
            write_run(folder, state, steps, self.evaluations(run), error)
            self.started.append(run.key)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def finish(folder: Path, steps: int) -> None:
    """End a run that was held, from outside."""
    write_run(folder, "finished", steps)
