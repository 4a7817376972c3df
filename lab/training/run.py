"""A run as people hold it: watch it, steer it, read it - from the process that trains it or from any other."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab.monitor import RunLock, StoreReader, StoreWriter, is_held, send

from .checkpoint import list_checkpoints
from .config import TrainConfig

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .loop import Training

log = logging.getLogger(__name__)

FILE_NAME = "run.json"
ENDED = ("finished", "stopped", "failed", "dead")
"""States in which nothing trains any more."""


class RunError(ValueError):
    """A run folder that cannot be opened or used, in one sentence."""


class Run:
    """A handle on a run's folder. Raises RunError where there is no run.

    Reads cost what is asked for; requests (`pause`, `resume`, `stop`, `checkpoint`) return at once and are obeyed
    at the loop's next safe point.
    """

    def __init__(self, folder: Path | str) -> None:
        self.dir = Path(folder)
        self.read_about(self.dir)
        self.reader = StoreReader(self.dir)
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.state}, step {self.step} of {self.about['config']['steps']}>"

    @property
    def about(self) -> dict[str, Any]:
        """What was written down when the run was made: configuration, pair set and version, time of creation."""
        return self.read_about(self.dir)

    @staticmethod
    def read_about(folder: Path) -> dict[str, Any]:
        """`about` of the run in a folder. Raises RunError where there is none."""
        try:
            return json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{folder} holds no run ({FILE_NAME} is missing); `python -m lab runs` lists the ones there are."
            ) from None

    @property
    def config(self) -> TrainConfig:
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
        return int(self.reader.status().get("step", 0))

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

    def layers(self) -> pd.DataFrame:
        """Gradient flow by layer: step, layer, norm_chosen, norm_rejected, cosine."""
        return self.reader.layers()

    def events(self, *kinds: str) -> pd.DataFrame:
        """What happened in the run, oldest first: number, time, step, kind, detail."""
        return self.reader.events(*kinds)

    def figure(self, name: str) -> go.Figure:
        """A picture of the run; `lab.plots.FIGURES` names them. Raises ValueError for another name."""
        from lab.plots import run_figure

        return run_figure(self, name)

    def checkpoints(self) -> list[Path]:
        """Folders of the checkpoints that are kept, oldest first."""
        return list_checkpoints(self.dir)

    def delete(self) -> None:
        """Remove the run and all it stored. Raises RunError while it is alive."""
        if self.state not in ENDED:
            raise RunError(f"The run {self.name} is {self.state}; stop it before you delete it.")
        shutil.rmtree(self.dir)


def create_run(folder: Path, config: TrainConfig, **about: Any) -> None:
    """Make a run's folder. Raises RunError if there is a run in it already; nothing of that one is touched."""
    if (folder / FILE_NAME).exists():
        raise RunError(f"There is a run in {folder} already; continue it with resume, or give another run_dir.")
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "config": config.model_dump(mode="json"),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        **about,
    }
    draft = folder / f".{FILE_NAME}"
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    draft.rename(folder / FILE_NAME)


def start(folder: Path, make: Any, *, background: bool = True) -> Run:
    """Train in `folder`: `make(store)` builds the Training. In a background thread, or in this one.

    Raises RuntimeError if somebody trains in the folder already. What goes wrong later ends the run as failed, with the reason in
    its store and the traceback in `log.txt`.
    """
    lock = RunLock(folder)
    store = StoreWriter(folder)
    store.status(state="queued", error=None)
    store.flush()
    run = Run(folder)

    def work() -> None:
        try:
            training: Training = make(store)
            outcome = training.run()
            store.status(state=outcome, stage=outcome, remaining=0)
            store.event(training.progress.step, "state", state=outcome)
        except BaseException as error:
            words = describe(error)
            (folder / "log.txt").write_text(traceback.format_exc(), encoding="utf-8")
            log.error("The run %s failed: %s", folder.name, words)
            store.status(state="failed", stage="failed", error=words)
            store.event(int(run.step), "state", state="failed", error=words)
            if not isinstance(error, Exception):
                raise
        finally:
            store.close()
            lock.release()

    if not background:
        work()
        return run
    run._thread = threading.Thread(target=work, name=f"run-{folder.name}", daemon=True)
    run._thread.start()
    return run


def describe(error: BaseException) -> str:
    """An error in one sentence for people."""
    if isinstance(error, KeyboardInterrupt):
        return "It was interrupted at the keyboard."
    words = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if "out of memory" in words.lower():
        return f"Out of memory: lower micro_batch_size or max_length, or train an adapter (lora_rank). ({words[:200]})"
    if isinstance(error, ValueError | FloatingPointError | RunError | KeyError) and words:
        return words
    return f"{type(error).__name__}: {words}"
