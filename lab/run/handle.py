"""The handle to a run: read metrics and control training, from the process that trains it or from any other."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.store import ENDED, Change, RunError, last_log_line, read_changes, read_twins
from lab.store.folder import STOPPING

from . import in_process, queueing
from .listing import labels as run_labels
from .listing import trash
from .listing.index import list_runs
from .listing.query import RunQuery, select
from .listing.tables import RunList, run_html
from .lock import is_held
from .lookup import find_run
from .requests import pending, send
from .run_data import RunData

if TYPE_CHECKING:
    from lab.pairs import PairStore

    from .config import TrainConfig
    from .pair_versions import UsedVersion

log = logging.getLogger(__name__)

CONTROLS = "run.stop() ends it with a checkpoint, and lab.train(run_dir=..., resume=True) continues it later."
CONTINUE = "`lab.train(run_dir=..., resume=True)` or `python -m lab train --run-dir FOLDER --resume`"
"""Advice in errors of a run that has ended: how to continue it from its latest checkpoint."""


class Run(RunData):
    """Handle to a run: read metrics, control training.

    Control requests (`pause`, `resume`, `stop`, `checkpoint`, `set`, `take_edits`) return at once; the training loop handles them
    at its next safe point: inside a step for pause and stop, between two steps for the others. They raise RunError for a run that
    has ended.

    Args:
        folder: The run's folder; `lab.open_run` also accepts a name.
        thread: The thread that trains it, for `wait`.
        check: False opens nothing before it is needed, for a folder that is known to hold a run.

    Raises:
        RunError: If the folder holds no run.
    """

    def __init__(self, folder: Path | str, thread: threading.Thread | None = None, *, check: bool = True) -> None:
        super().__init__(folder, check=check)
        self._thread = thread

    def __repr__(self) -> str:
        try:
            config = self.manifest["config"]
            return f"<Run {self.name}: {self.state}, step {self.step} of {config['steps']}, {config['objective']['name']}>"
        except (RunError, OSError, sqlite3.Error) as error:
            return f"<Run {self.dir.name}, which cannot be read: {error}>"

    def _repr_html_(self) -> str:
        """Show the run as a small table in a notebook."""
        return run_html(self.dir)

    @property
    def settings(self) -> TrainConfig:
        """The settings in use now, with everything that was changed during training. Raises ConfigError as `config` does."""
        from .settings import settings_at

        return settings_at(self)

    def changes(self) -> list[Change]:
        """Return the settings and pair versions that were changed during training, oldest first."""
        done = self.step
        return [change for change in read_changes(self.dir) if change.after <= done]

    @property
    def pairs_version(self) -> int:
        """The version of the pair store that the run trains on now."""
        versions = [change.pairs_version for change in self.changes() if change.pairs_version is not None]
        return versions[-1] if versions else int(self.manifest["pairs_version"])

    @property
    def pairs_setting(self) -> str:
        """The setting `pairs_version`: current, follow, or the one version that the run trains on."""
        return str(self.manifest["config"].get("pairs_version", "current"))

    def pair_versions(self) -> list[UsedVersion]:
        """Return the versions of the pair store that the run was trained on so far, each with its first and last step."""
        from .pair_versions import used_versions

        return used_versions(self.dir, self.step)

    def pair_store(self) -> PairStore:
        """Open the pair store that the run trains on, with all its versions. Raises PairsError if it is missing."""
        from lab.pairs import PairStore

        return PairStore(self.manifest["pairs_store"])

    @property
    def name(self) -> str:
        """The run's name: the one from `rename`, else the one it was made with, else that of its folder."""
        return str(self.labels.name or self.manifest["config"]["name"] or self.dir.name)

    @property
    def labels(self) -> run_labels.RunLabels:
        """Name, tags, note and archive of the run, each with the author and time of its latest change."""
        return run_labels.read_labels(self.dir)

    def rename(self, name: str, *, author: str | None = None) -> None:
        """Give the run another name; "" returns to the one it was made with. Its folder, by which others refer to it, stays."""
        run_labels.rename(self.dir, name, author=author)

    def tag(self, *tags: str, author: str | None = None) -> None:
        """Add tags."""
        run_labels.add_tags(self.dir, tags, author=author)

    def untag(self, *tags: str, author: str | None = None) -> None:
        """Remove tags; those that it does not have are ignored."""
        run_labels.remove_tags(self.dir, tags, author=author)

    def note(self, text: str, *, author: str | None = None) -> None:
        """Replace the run's note; "" removes it."""
        run_labels.write_note(self.dir, text, author=author)

    def archive(self, *, author: str | None = None) -> None:
        """Leave the run out of lists; nothing is deleted, and it opens by its name as before."""
        run_labels.set_archived(self.dir, True, author=author)

    def unarchive(self, *, author: str | None = None) -> None:
        """List the run again."""
        run_labels.set_archived(self.dir, False, author=author)

    @property
    def state(self) -> str:
        """One of queued, running, paused, finished, stopped, failed, or crashed (its process ended unexpectedly)."""
        state = str(self.reader.status().get("state", "queued"))
        if state not in ENDED and not is_held(self.dir):
            # The run may have ended between reading its state and its lock.
            status = self.reader.status()
            state = str(status.get("state", "queued"))
            if state in ENDED:
                return state
            outcome = in_process.unwritten_outcome(self.dir, status)
            return outcome.state if outcome else "crashed"
        return state

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested and the run has not ended yet."""
        status = self.reader.status()
        return str(status.get("state", "queued")) not in ENDED and (status.get("stage") == STOPPING or pending(self.dir, "stop"))

    @property
    def status(self) -> dict[str, Any]:
        """Latest progress: step, stage, stage_share, remaining [seconds], seconds (trained), error, and more."""
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
        """Why the run stopped by itself, in one sentence; None if it did not."""
        status = self.reader.status()
        outcome = None if status.get("state") in ENDED else in_process.unwritten_outcome(self.dir, status)
        reason: str | None = outcome.reason if outcome else status.get("reason")
        return reason

    @property
    def error(self) -> str | None:
        """Why the run failed, in one sentence, or None. For a crashed training process: the last line of its log."""
        status = self.reader.status()
        if status.get("executor") == "process" and not status.get("error") and self.state == "crashed":
            return last_log_line(self.dir)
        if (
            not status.get("error")
            and status.get("state") not in ENDED
            and (outcome := in_process.unwritten_outcome(self.dir, status))
        ):
            return outcome.error
        error: str | None = status.get("error")
        return error

    def pause(self) -> None:
        """Pause at the next safe point. `resume()` continues."""
        self._send("pause")

    def resume(self) -> None:
        """Continue after `pause()`. To continue a run that has ended, use `lab.train(run_dir=..., resume=True)`."""
        self._send("resume")

    def stop(self) -> None:
        """Save a checkpoint and end training. `lab.train(run_dir=..., resume=True)` continues from it."""
        self._send("stop")

    def checkpoint(self, *, keep: bool = True) -> None:
        """Save a checkpoint at the next safe point.

        Args:
            keep: Keep it as long as the run, besides the latest ones; False keeps it until the next request with keep=False.
        """
        self._send("checkpoint", **({} if keep else {"keep": False}))

    @property
    def place(self) -> queueing.Place | None:
        """The run's place in its device's queue (0 for the one that trains), or None if it is in no queue."""
        return queueing.place_of(self.dir)

    def move(self, place: int) -> queueing.Place:
        """Move a waiting run to another place of its queue; 1 is the next to train. Raises RunError if it is not waiting."""
        return queueing.move(self.dir, place)

    def set(self, settings: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Change the learning rate or changeable parameters of the objective from the next step on.

        run.set(learning_rate=5e-5, beta=0.2), or by path for a nested objective: run.set({"base.beta": 0.2}). A new learning
        rate replaces the peak of the schedule.

        Raises:
            ConfigError: For a setting that does not exist, cannot change during training, or has an invalid value.
            RunError: If the run has ended.
        """
        from .changeable import changed, values

        wanted = {**(settings or {}), **more}
        self._send("set", settings=values(changed(self.settings, wanted), wanted))

    def send_settings(self, settings: Mapping[str, Any]) -> str:
        """Send the request of `set` without checking the settings here, which would import torch; the run checks them.

        Returns the request's id, for `await_answer`. Raises RunError if the run has ended.
        """
        return self._send("set", settings=dict(settings))

    def await_answer(self, request: str, *, timeout: float) -> dict[str, Any] | None:
        """Wait for the run's answer to a request of `send_settings`.

        Returns:
            {"step": ..., "settings": {path: [before, now]}}, or None without an answer in `timeout` seconds, for example while the
            run is queued, prepares or is in a long step.

        Raises:
            RunError: If the run refused the request, with its reason, or ended without handling it.
        """
        deadline = time.monotonic() + timeout
        while True:
            ended = self.state in ENDED
            events = self.events("change", "refused")
            for step, kind, detail in zip(events["step"], events["kind"], events["detail"]):
                if detail.get("id") == request:
                    if kind == "refused":
                        raise RunError(detail["message"])
                    return {"step": int(step), "settings": detail["settings"]}
            if ended:
                later = "; it is handled when the run is resumed" if pending(self.dir, "set") else ""
                raise RunError(f"The run {self.name} is {self.state}; it ended before it handled the request{later}.")
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)

    def take_edits(self) -> None:
        """Train on the present content of the pair store from the next step on.

        Edited pairs replace the old ones, dropped pairs are left out, restored pairs return in the next epoch. A run with
        pairs_version="follow" does so by itself. Raises RunError if the run uses this version already, is set to one version of
        its pairs, or has ended.
        """
        from .pair_versions import FIXED, is_fixed

        if is_fixed(self.pairs_setting):
            raise RunError(FIXED.format(name=f"The run {self.name}", wanted=self.pairs_setting))
        with self.pair_store() as store:
            version = store.version
        if version == self.pairs_version:
            raise RunError(f"The run {self.name} uses the latest version of its pairs already (version {version}).")
        self._send("edits", version=version)

    def _send(self, kind: str, **detail: Any) -> str:
        state = self.state
        if state in ENDED:
            what = {"set": "change its settings", "edits": "take edits", "checkpoint": "save a checkpoint"}.get(kind, kind)
            more = f" To continue training, use {CONTINUE}." if kind == "resume" else ""
            raise RunError(f"The run {self.name} is {state}, so it cannot {what}; only a live run can.{more}")
        return send(self.dir, kind, **detail)

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the run has ended, or for `timeout` seconds, and return its state. `error` tells why a run failed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while (state := self.state) not in ENDED or (self._thread is not None and self._thread.is_alive()):
                if deadline is not None and time.monotonic() > deadline:
                    return state
                time.sleep(0.05)
        except KeyboardInterrupt:
            until = " until this program ends" if self._thread is not None else ""
            log.warning(
                "No longer waiting for %s at step %s; it continues training%s. %s", self.name, f"{self.step:,}", until, CONTROLS
            )
            raise
        return self.state

    @property
    def twins(self) -> list[Run]:
        """The runs that differ from this one in the objective alone; see `lab.train_twins`. Deleted ones are left out."""
        return [Run(folder) for folder in read_twins(self.dir)]

    def delete(self, *, for_good: bool = False, author: str | None = None) -> None:
        """Move the run's folder to the trash of `LAB_HOME`; `lab.trashed_runs()` lists what can be restored.

        Args:
            for_good: Delete the folder at once.
            author: Who deletes it; None for this person.

        Raises:
            RunError: While the run is queued, running or paused, and if it cannot be deleted.
        """
        if for_good:
            trash.delete_for_good(self.dir)
        else:
            trash.delete_run(self.dir, author=author)


def open_run(run_dir: str | Path) -> Run:
    """Open a run by its folder, its name, or the beginning of its name.

    Raises RunError if there is no such run, or if several runs match the name.
    """
    return Run(find_run(run_dir))


def runs(
    text: str = "",
    *,
    states: Sequence[str] = (),
    since: str = "",
    until: str = "",
    archived: bool | None = False,
    sort: str = "created",
    descending: bool = True,
) -> RunList[Run]:
    """Return the known runs, newest first, without archived ones. A notebook shows the list as a table; `frame()` has all numbers.

    lab.runs("sgdpo #baseline", states=["finished"], sort="eval/rewards/accuracies").frame()

    Args:
        text: Words that all have to occur in name, folder, tags, note, objective, pairs or model; a word with # has to be a tag.
        states: States to list: queued, running, paused, finished, stopped, failed, crashed; empty for all.
        since: The first day on which a listed run was made, as 2026-01-31.
        until: The last such day.
        archived: True lists archived runs only, None also archived ones.
        sort: created, name, state, objective, pairs, model, step, seconds, seed, learning_rate, tags, or a scalar (its latest
            value).
        descending: Largest or newest first. Runs without a value come last.

    Raises:
        RunError: For a state, a day or a name to sort by that does not exist.
    """
    query = RunQuery(text, tuple(states), since, until, archived, sort, descending)
    return RunList(Run(run.folder, check=False) for run in select(list_runs().runs, query))
