"""A run as people hold it: watch it, steer it, read it - from the process that trains it or from any other."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import extensions, home
from lab.store import (
    ENDED,
    Change,
    RunError,
    StoreReader,
    best_checkpoint,
    export,
    last_words,
    list_checkpoints,
    read_changes,
    read_manifest,
    read_twins,
    write_page,
    write_table,
)
from lab.store.folder import RUN_FILE, STOPPING

from . import in_process, queueing
from .listing import RunList, run_html
from .lock import is_held
from .requests import pending, send

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from lab.diagnosis import Diagnosis
    from lab.pairs import PairStore

    from .config import TrainConfig
    from .preflight_report import Preflight


class Run:
    """A handle on a run's folder. Raises RunError where there is no run.

    Reads cost what is asked for; requests (`pause`, `resume`, `stop`, `checkpoint`, `set`, `take_edits`) return at once and are
    obeyed at the loop's next safe point.
    """

    def __init__(self, folder: Path | str, thread: threading.Thread | None = None) -> None:
        self.dir = Path(folder)
        read_manifest(self.dir)
        self.reader = StoreReader(self.dir)
        self._thread = thread

    def __repr__(self) -> str:
        config = self.manifest["config"]
        return f"<Run {self.name}: {self.state}, step {self.step} of {config['steps']}, {config['objective']['name']}>"

    def _repr_html_(self) -> str:
        """Show the run as a small table in a notebook."""
        return run_html(self)

    @property
    def folder(self) -> Path:
        """The run's folder, which `lab.open_run` accepts."""
        return self.dir

    @property
    def manifest(self) -> dict[str, Any]:
        """What was written down when the run was made: configuration, pair set and version, time of creation."""
        return read_manifest(self.dir)

    @property
    def config(self) -> TrainConfig:
        """Its settings. Raises ConfigError if they cannot be read any more, as when a user's own objective is gone."""
        from .config import TrainConfig  # brings torch, which merely watching a run should not wait for

        extensions.load()
        return TrainConfig.parse(**self.manifest["config"])

    @property
    def settings(self) -> TrainConfig:
        """The settings in use now, with everything that was changed during training. Raises ConfigError as `config` does."""
        from .settings import settings_at

        return settings_at(self)

    def changes(self) -> list[Change]:
        """What was changed in mid-run up to now, oldest first."""
        done = self.step
        return [change for change in read_changes(self.dir) if change.after <= done]

    @property
    def pairs_version(self) -> int:
        """The version of the pair store that it trains on now."""
        versions = [change.pairs_version for change in self.changes() if change.pairs_version is not None]
        return versions[-1] if versions else int(self.manifest["pairs_version"])

    def pair_store(self) -> PairStore:
        """The pairs it trains on, with all their versions. Raises PairsError if they are gone."""
        from lab.pairs import PairStore

        return PairStore(self.manifest["pairs_store"])

    @property
    def name(self) -> str:
        return self.manifest["config"]["name"] or self.dir.name

    @property
    def state(self) -> str:
        """queued, running, paused, finished, stopped, failed, or dead: its process ended without a word."""
        state = str(self.reader.status().get("state", "queued"))
        if state not in ENDED and not is_held(self.dir):
            # The last word may have been written between the two looks.
            status = self.reader.status()
            state = str(status.get("state", "queued"))
            if state in ENDED:
                return state
            outcome = self._outcome(status)
            return outcome.state if outcome else "dead"
        return state

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop and has not ended yet."""
        status = self.reader.status()
        return str(status.get("state", "queued")) not in ENDED and (status.get("stage") == STOPPING or pending(self.dir, "stop"))

    def _outcome(self, status: Mapping[str, Any]) -> in_process.Outcome | None:
        """How the run ended, where this process trained it last and the disk did not take that any more."""
        return in_process.outcome_of(self.dir) if status.get("process") == os.getpid() else None

    @property
    def status(self) -> dict[str, Any]:
        """step, stage, stage_share, remaining (seconds), seconds trained, error, ... as last written."""
        status = self.reader.status()
        if str(status.get("state", "queued")) not in ENDED and pending(self.dir, "stop"):
            status |= {"stage": STOPPING, "stage_share": None, "stage_remaining": None}
        return status

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.reader.step

    @property
    def stop_reason(self) -> str | None:
        """Why the run stopped by itself, in one sentence; None where it did not."""
        status = self.reader.status()
        outcome = None if status.get("state") in ENDED else self._outcome(status)
        return outcome.reason if outcome else status.get("reason")

    @property
    def error(self) -> str | None:
        """Why the run failed, in one sentence; None if it did not. Of a dead process of its own: what it last said."""
        status = self.reader.status()
        if status.get("executor") == "process" and not status.get("error") and self.state == "dead":
            return last_words(self.dir)
        if not status.get("error") and status.get("state") not in ENDED and (outcome := self._outcome(status)):
            return outcome.error
        return status.get("error")

    def pause(self) -> None:
        """Hold at the next safe point."""
        self._ask("pause")

    def resume(self) -> None:
        """Go on after a pause. To continue a run that has ended, use `lab.train(run_dir=..., resume=True)`."""
        self._ask("resume")

    def stop(self) -> None:
        """Save a checkpoint and end."""
        self._ask("stop")

    def checkpoint(self, *, keep: bool = True) -> None:
        """Save a checkpoint at the next safe point. It stays beside those that the run saves by itself until the run is deleted;
        keep=False: until the next one that is asked for so, for whoever wants to look at the model as it is now."""
        self._ask("checkpoint", **({} if keep else {"keep": False}))

    @property
    def place(self) -> queueing.Place | None:
        """Where it stands in its device's queue (place 0 trains); None if it is in none."""
        return queueing.place_of(self.dir)

    def move(self, place: int) -> queueing.Place:
        """Put a queued run at another place of its queue; 1 is the next to train. Raises RunError if it does not wait."""
        return queueing.move(self.dir, place)

    def set(self, settings: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Change the learning rate, or parameters of the objective that are marked changeable, from the next step on.

        By name, or by path for an objective inside another: run.set(learning_rate=5e-5, beta=0.2), run.set({"base.beta": 0.2}).
        A new learning rate replaces the peak of the schedule. Raises ConfigError for what cannot be set, RunError for a run that
        has ended.
        """
        from .changeable import changed, values

        wanted = {**(settings or {}), **more}
        self._ask("set", settings=values(changed(self.settings, wanted), wanted))

    def ask_to_set(self, settings: Mapping[str, Any]) -> str:
        """The request of `set` without its check, which takes seconds where torch is not loaded yet: the run checks. Returns the
        request's id for `answer`. Raises RunError for a run that has ended."""
        return self._ask("set", settings=dict(settings))

    def answer(self, request: str, *, timeout: float) -> dict[str, Any] | None:
        """What a run said to a request of `ask_to_set`: {"step", "settings": {path: [before, now]}}. None if it said nothing in
        `timeout` seconds, as while it is queued, prepares or is in a long step. Raises RunError with its words where it refused,
        and where it ended without having heard."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.state in ENDED
            for event in self.events("change", "refused").itertuples():
                if event.detail.get("id") == request:
                    if event.kind == "refused":
                        raise RunError(event.detail["message"])
                    return {"step": event.step, "settings": event.detail["settings"]}
            if ended:
                raise RunError(f"The run {self.name} is {self.state} and did not hear it any more.")
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)

    def take_edits(self) -> None:
        """Train on the pair store's present content from the next step on: edited pairs in place of the old ones, dropped ones
        no more, restored ones from the next epoch on. Raises RunError where the run uses it already, or has ended."""
        with self.pair_store() as store:
            version = store.version
        if version == self.pairs_version:
            raise RunError(f"The run {self.name} uses the latest version of its pairs already (version {version}).")
        self._ask("edits", version=version)

    def _ask(self, kind: str, **detail: Any) -> str:
        state = self.state
        if state in ENDED:
            what = {"set": "change its settings", "edits": "take edits", "checkpoint": "save a checkpoint"}.get(kind, kind)
            raise RunError(f"The run {self.name} is {state}, so it cannot {what}; only a live run can.")
        return send(self.dir, kind, **detail)

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the run has ended (or `timeout` seconds are over) and return its state. `error` says why a run failed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (state := self.state) not in ENDED or (self._thread is not None and self._thread.is_alive()):
            if deadline is not None and time.monotonic() > deadline:
                return state
            time.sleep(0.05)
        return self.state

    def scalars(
        self, names: list[str] | None = None, *, first: int = 0, last: int | None = None, points: int | None = None
    ) -> pd.DataFrame:
        """Scalars by step; see `StoreReader.scalars`."""
        return self.reader.scalars(names, first=first, last=last, points=points)

    def pairs(self, step: int | None = None) -> pd.DataFrame:
        """Every pair's terms when it was last seen (at or before `step`): one row a pair, one column a term."""
        return self.reader.pairs(step)

    def held_out(self, step: int | None = None) -> pd.DataFrame:
        """The terms of the pairs that are never trained on, at the latest look (at or before `step`), in the columns of `pairs`."""
        return self.reader.held_out(step)

    def layers(self, *, first: int = 0, last: int | None = None, points: int | None = None) -> pd.DataFrame:
        """Gradient flow by layer: step, layer, norm_chosen, norm_rejected, cosine, update_ratio; see `StoreReader.layers`."""
        return self.reader.layers(first=first, last=last, points=points)

    def panel(self, step: int | None = None) -> pd.DataFrame:
        """Where the probability goes: log-probs of chosen, rejected and greedy answer of a few held-out pairs, look by look (up to
        `step`); see `StoreReader.panel`."""
        return self.reader.panel(step)

    def events(self, *kinds: str) -> pd.DataFrame:
        """What happened in the run, oldest first: number, time, step, kind, detail."""
        return self.reader.events(*kinds)

    def diagnose(self, step: int | None = None) -> list[Diagnosis]:
        """What goes wrong in the run, in words, the gravest first: as it stands now, or as it stood at a step. The thresholds are
        those kept with the run, else the defaults; see `lab.diagnosis`."""
        from lab.diagnosis import diagnose, read_thresholds

        extensions.load()
        return diagnose(self.reader, step=step, thresholds=read_thresholds(self.dir))

    def preflight(self, *, after: int = 0) -> Preflight | None:
        """What was known before the first step, or before the run went on: lengths, cuts, memory, time. None until it has been
        found; after: the number of an event before it, where an older one does not count."""
        from .preflight_report import Preflight

        found = self.reader.events("preflight", after=after)["detail"]
        return None if found.empty else Preflight.model_validate(found.iloc[-1])

    def figure(self, name: str, *, dark: bool = False) -> go.Figure:
        """A figure of the run on a light or dark background; `lab.plots.FIGURES` names them. Raises ValueError for another name."""
        from lab.plots import run_figure
        from lab.plots.style import with_background

        return with_background(run_figure(self.reader, name, dark), dark)

    def export(self, what: str, path: Path | str, *, first: int = 0, last: int | None = None) -> Path:
        """Write numbers of the run to a new .csv or .parquet file: scalars, pairs (each pair's latest terms), terms (at every step
        that is kept), held_out, panel, layers, events or tokens, of the steps `first` to `last`. `figure:margins` writes what that
        figure stands for, whole; into an .html file, the figure itself as a page, as it was at the step `last`. Raises RunError (or
        ValueError for a figure there is not) in one sentence."""
        name = what.removeprefix("figure:")
        if name == what:
            return export(self.reader, what, path, first=first, last=last)
        from lab.plots import Record, figure_data, figure_file

        record = Record(self.reader, last)
        if Path(path).suffix.lower() == ".html":
            return write_page(figure_file(record, name, "HTML"), path)
        table = figure_data(record, name)
        table = table[table["step"] >= first] if "step" in table else table
        return write_table(list(table.columns), [table], path)

    def checkpoints(self) -> list[Path]:
        """Folders of the checkpoints that are kept, oldest first."""
        return list_checkpoints(self.dir)

    def best_checkpoint(self) -> Path | None:
        """The one with the best evaluation by the setting `keep_best`, or None where none was evaluated."""
        return best_checkpoint(self.dir, self.manifest["config"].get("keep_best", "auto"))

    @property
    def twins(self) -> list[Run]:
        """The runs that began as this one did and see the same batches in the same order, under another objective; see
        `lab.train_twins`. Those that were deleted are left out."""
        return [Run(folder) for folder in read_twins(self.dir)]

    def delete(self) -> None:
        """Remove the run and all it stored. Raises RunError while it is alive."""
        if self.state not in ENDED:
            raise RunError(f"The run {self.name} is {self.state}; stop it before you delete it.")
        shutil.rmtree(self.dir.resolve())
        self.dir.unlink(missing_ok=True)  # where it was a link to a run that stands elsewhere


def open_run(run_dir: str | Path) -> Run:
    """A run by its folder, or by a name among `runs()`; see `find_run`. Raises RunError where there is none."""
    return Run(find_run(run_dir))


def find_run(run: str | Path) -> Path:
    """The folder of a run: the one that is given, or among `runs()` that of this name, or the only one that begins so.

    A name is that of a run's folder or the one people gave it. Raises RunError where none or several are called so.
    """
    folder, word = Path(run), str(run)
    if (folder / RUN_FILE).exists() or not word.strip() or len(folder.parts) != 1:
        return folder
    if (home.runs_dir() / folder / RUN_FILE).exists():
        return home.runs_dir() / folder
    names = {}
    for known in home.run_folders():
        with contextlib.suppress(RunError, OSError, KeyError):  # damaged, or being made or deleted at this moment
            names[known] = {known.name, known.resolve().name, read_manifest(known)["config"].get("name") or known.name}
    called = [known for known, own in names.items() if word in own]
    found = called or [known for known, own in names.items() if any(name.startswith(word) for name in own)]
    if len(found) > 1:
        some = ", ".join(known.name for known in found[:5]) + (", ..." if len(found) > 5 else "")
        what = "have the name" if called else "have a name that begins with"
        raise RunError(f"{len(found)} runs {what} {word!r}: {some}; give the whole name of one's folder.")
    return found[0] if found else folder


def runs() -> list[Run]:
    """All known runs, newest first. A notebook shows the list as a table."""
    found: RunList[Run] = RunList()
    for folder in home.run_folders():
        try:
            found.append(Run(folder))
        except (RunError, OSError, sqlite3.Error):  # damaged, or being made or deleted at this moment
            continue
    return found
