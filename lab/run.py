"""A run as people hold it: watch it, steer it, read it - from the process that trains it or from any other."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab import extensions, home
from lab.monitor import ENDED, RunError, StoreReader, is_held, list_checkpoints, read_about, send

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lab.training import TrainConfig


class Run:
    """A handle on a run's folder. Raises RunError where there is no run.

    Reads cost what is asked for; requests (`pause`, `resume`, `stop`, `checkpoint`) return at once and are obeyed
    at the loop's next safe point.
    """

    def __init__(self, folder: Path | str, thread: threading.Thread | None = None) -> None:
        self.dir = Path(folder)
        read_about(self.dir)
        self.reader = StoreReader(self.dir)
        self._thread = thread

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.state}, step {self.step} of {self.about['config']['steps']}>"

    @property
    def about(self) -> dict[str, Any]:
        """What was written down when the run was made: configuration, pair set and version, time of creation."""
        return read_about(self.dir)

    @property
    def config(self) -> TrainConfig:
        """Its settings. Raises ConfigError if they cannot be read any more, as when a user's own objective is gone."""
        from lab.training import TrainConfig  # brings torch, which merely watching a run should not wait for

        extensions.load()
        return TrainConfig.parse(**self.about["config"])

    @property
    def name(self) -> str:
        return self.about["config"]["name"] or self.dir.name

    @property
    def state(self) -> str:
        """queued, running, paused, finished, stopped, failed, or dead: its process ended without a word."""
        state = str(self.reader.status().get("state", "queued"))
        if state not in ENDED and not is_held(self.dir):
            # The last word may have been written between the two looks.
            state = str(self.reader.status().get("state", "queued"))
            return state if state in ENDED else "dead"
        return state

    @property
    def status(self) -> dict[str, Any]:
        """step, stage, stage_share, remaining (seconds), seconds trained, error, ... as last written."""
        return self.reader.status()

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.reader.step

    @property
    def error(self) -> str | None:
        """Why the run failed, in one sentence; None if it did not."""
        return self.reader.status().get("error")

    def pause(self) -> None:
        """Hold at the next safe point."""
        self._ask("pause")

    def resume(self) -> None:
        """Go on after a pause. To continue a run that has ended, use `lab.train(run_dir=..., resume=True)`."""
        self._ask("resume")

    def stop(self) -> None:
        """Save a checkpoint and end."""
        self._ask("stop")

    def checkpoint(self) -> None:
        """Save a checkpoint at the next safe point."""
        self._ask("checkpoint")

    def _ask(self, kind: str) -> None:
        state = self.state
        if state in ENDED:
            raise RunError(f"The run {self.name} is {state}, so it cannot {kind}; only a live run can.")
        send(self.dir, kind)

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the run has ended (or `timeout` seconds are over) and return its state. `error` says why a run failed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (state := self.state) not in ENDED or (self._thread is not None and self._thread.is_alive()):
            if deadline is not None and time.monotonic() > deadline:
                return state
            time.sleep(0.05)
        return self.state

    def scalars(self, names: list[str] | None = None, *, points: int | None = None) -> pd.DataFrame:
        """Scalars by step; see `StoreReader.scalars`."""
        return self.reader.scalars(names, points=points)

    def pairs(self, step: int | None = None) -> pd.DataFrame:
        """Every pair's terms when it was last seen (at or before `step`): one row a pair, one column a term."""
        return self.reader.pairs(step)

    def held_out(self, step: int | None = None) -> pd.DataFrame:
        """The terms of the pairs that are never trained on, at the latest look (at or before `step`), in the columns of `pairs`."""
        return self.reader.held_out(step)

    def layers(self) -> pd.DataFrame:
        """Gradient flow by layer: step, layer, norm_chosen, norm_rejected, cosine."""
        return self.reader.layers()

    def events(self, *kinds: str) -> pd.DataFrame:
        """What happened in the run, oldest first: number, time, step, kind, detail."""
        return self.reader.events(*kinds)

    def figure(self, name: str) -> go.Figure:
        """A picture of the run; `lab.plots.FIGURES` names them. Raises ValueError for another name."""
        from lab.plots import run_figure

        return run_figure(self.reader, name)

    def checkpoints(self) -> list[Path]:
        """Folders of the checkpoints that are kept, oldest first."""
        return list_checkpoints(self.dir)

    def delete(self) -> None:
        """Remove the run and all it stored. Raises RunError while it is alive."""
        if self.state not in ENDED:
            raise RunError(f"The run {self.name} is {self.state}; stop it before you delete it.")
        shutil.rmtree(self.dir.resolve())
        self.dir.unlink(missing_ok=True)  # where it was a link to a run that stands elsewhere


def open_run(run_dir: str | Path) -> Run:
    """A run by its folder, or by its name among `runs()`. Raises RunError where there is none."""
    folder = Path(run_dir)
    if not (folder / "run.json").exists() and (home.runs_dir() / str(run_dir) / "run.json").exists():
        folder = home.runs_dir() / str(run_dir)
    return Run(folder)


def runs() -> list[Run]:
    """All known runs, newest first."""
    found = []
    for folder in home.run_folders():
        try:
            found.append(Run(folder))
        except (RunError, OSError, sqlite3.Error):  # damaged, or being made or deleted at this moment
            continue
    return found
