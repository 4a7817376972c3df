"""Experiment trackers (TensorBoard, Weights & Biases, trackio) that receive a run's scalars, through Accelerate's classes.

The lab itself reads only the run store. A tracker listens to the store's writer in a thread of its own, so a slow tracker never
delays a training step, and a failing one never ends a run.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.run.config import ConfigError, TrainConfig

log = logging.getLogger(__name__)

PROJECT = "preference-lab"
"""Project name in W&B and trackio."""

BUILT_IN = ("tensorboard", "wandb", "trackio")
"""Trackers that the lab can continue when a run resumes; each name is also that of its pip package."""

QUEUE_LIMIT = 100_000
"""Steps that may wait for a slow tracker; further ones are dropped."""

PATIENCE = 60.0
"""Seconds that a tracker has to write the remaining values when the run has ended."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers identify it.

    Attributes:
        name: Display name.
        key: Identifier that stays the same when the run resumes, and that no other run has.
        folder: Folder for trackers that write files.
        resumed: Whether the tracker continues an earlier record of this run.
        settings: See `hyper_parameters`.
    """

    name: str
    key: str
    folder: Path
    resumed: bool
    settings: dict[str, Any]


def tracked_run(folder: Path, config: TrainConfig, created: str, *, resumed: bool) -> TrackedRun:
    """Return the description of a run for trackers; `created` is the time in its manifest."""
    key = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{folder.name}-{created}")[-100:]
    return TrackedRun(config.name or folder.name, key, folder.resolve(), resumed, hyper_parameters(config))


def hyper_parameters(config: TrainConfig) -> dict[str, Any]:
    """Return every setting by its flat name ("objective.beta"), as bool, number or string; None becomes "none".

    Addresses of alerts are left out, because they may contain a secret.
    """
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value if isinstance(value, bool | int | float | str) else str(value).lower()

    add("", config.model_dump(mode="json", exclude={"alert_webhook", "alert_hosts"}))
    return flat


def tracker_names(trackers: str) -> list[str]:
    """Return the names in a `trackers` setting ("tensorboard, wandb"), without duplicates.

    Besides the built-in trackers, classes registered with Accelerate are allowed.

    Raises:
        ConfigError: A tracker is unknown or not installed; the message names what to install.
    """
    names = list(dict.fromkeys(name.strip() for name in trackers.split(",") if name.strip()))
    for name in names:
        if name not in BUILT_IN and name not in _registered():
            raise ConfigError(
                f"There is no tracker {name!r}; use {', '.join(BUILT_IN)}, several with commas between them, "
                "or a class that you have registered with accelerate."
            )
        if name in BUILT_IN and importlib.util.find_spec(name) is None:
            raise ConfigError(f"The tracker {name} is not installed; run `pip install {name}`, or leave it out of trackers.")
    return names


def _registered() -> dict[str, Any]:
    """Return the tracker classes that were registered with Accelerate by name, without Accelerate's own."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS
    from accelerate.utils import LoggerType

    own = set(LoggerType.list())
    return {name: kind for name, kind in LOGGER_TYPE_TO_CLASS.items() if name not in own}


def make_tracker(name: str, run: TrackedRun, first_step: int) -> Any:
    """Start a tracker and return it, an `accelerate.tracking.GeneralTracker`.

    A resumed run continues its record: TensorBoard in the same folder, without its values from `first_step` on, W&B under the same
    id, trackio under the same name. Errors of the tracker are not caught.

    Args:
        name: One of `tracker_names`.
        run: The run.
        first_step: Step of the first values that will be logged.
    """
    from accelerate.state import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # the logger of Accelerate's trackers requires it
    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "wandb":
        # create_new: a second run of this process must not be logged into the first; `init` assigns settings to the right one.
        tracker = kind(
            PROJECT, name=run.name, id=run.key, resume="allow", reinit="create_new", dir=str(run.folder), config=run.settings
        )
    elif name == "trackio":
        tracker = kind(PROJECT, name=run.key, resume="allow", embed=False, config=run.settings)
    elif name == "tensorboard":
        tracker = kind("tensorboard", str(run.folder), purge_step=first_step if run.resumed else None)
    else:
        tracker = kind(PROJECT, str(run.folder)) if kind.requires_logging_directory else kind(PROJECT)
    # Only the process that writes the run's store creates trackers.
    tracker.main_process_only = False
    tracker.start()
    if name not in ("wandb", "trackio") and not run.resumed:
        tracker.store_init_configuration(dict(run.settings))
    return tracker


class Recorder:
    """Sends scalars to one tracker from a thread of its own; a listener of StoreWriter.

    Args:
        name: One of `tracker_names`.
        run: The run.
        warn: Receives (step, message) if the tracker fails; the tracker receives nothing afterwards.
    """

    def __init__(self, name: str, run: TrackedRun, warn: Callable[[int, str], None]) -> None:
        self.name, self._run, self._warn = name, run, warn
        self._queue: queue.SimpleQueue[tuple[int, dict[str, float]] | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Queue the scalars of a step; returns at once."""
        if not self._thread.is_alive():
            return
        if self._queue.qsize() < QUEUE_LIMIT:
            self._queue.put((step, dict(values)))
        else:
            self._dropped += 1

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until the tracker has written everything, at most `patience` seconds."""
        if self._dropped:
            self._warn(0, f"The tracker {self.name} was too slow: {self._dropped:,} of its values were left out.")
        self._queue.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn(0, f"The tracker {self.name} had not written everything {patience:g} seconds after the end of the run.")

    def _work(self) -> None:
        tracker: Any = None
        step = 0
        try:
            while (item := self._queue.get()) is not None:
                step, values = item
                tracker = tracker or make_tracker(self.name, self._run, step)
                tracker.log(values, step=step)
            if tracker is not None:
                tracker.finish()
        except Exception as error:  # a tracker may raise anything, and must not end the run
            message = f"The tracker {self.name} failed ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
            log.warning("%s; the run goes on without it.", message)
            self._warn(step, f"{message}; the run goes on without it.")
