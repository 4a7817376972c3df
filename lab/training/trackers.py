"""Experiment trackers (TensorBoard, Weights & Biases, trackio) fed with a run's scalars, through Accelerate's tracker classes.

The run store stays what the lab itself reads. A tracker is a listener of the store's writer with a thread of its own, so that
a slow one never holds up a training step, and one that fails never ends a run.
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
"""What W&B and trackio put all runs of the lab under."""

BUILT_IN = ("tensorboard", "wandb", "trackio")
"""Trackers the lab knows how to name, store and continue; each is the name of its pip package too."""

WAITING = 100_000
"""Steps that may wait for a slow tracker before further ones are left out."""

PATIENCE = 60.0
"""Seconds a tracker gets for its last words when the run has ended."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about a run.

    name: for people.   key: the same at every resumption, and no other run's.   folder: for trackers that write files.
    resumed: whether the run goes on in what a tracker may hold of it already.   settings: see `hyper_parameters`.
    """

    name: str
    key: str
    folder: Path
    resumed: bool
    settings: dict[str, Any]


def tracked_run(folder: Path, config: TrainConfig, created: str, *, resumed: bool) -> TrackedRun:
    """The run in `folder`, made at the time `created`, as trackers know it."""
    key = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{folder.name}-{created}")[-100:]
    return TrackedRun(config.name or folder.name, key, folder.resolve(), resumed, hyper_parameters(config))


def hyper_parameters(config: TrainConfig) -> dict[str, Any]:
    """Every setting by name, flat ("objective.beta"), as the plain values that every tracker takes; None becomes "none"."""
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value if isinstance(value, bool | int | float | str) else str(value).lower()

    add("", config.model_dump(mode="json", exclude={"alert_webhook", "alert_hosts"}))  # an address may be a secret
    return flat


def tracker_names(trackers: str) -> list[str]:
    """The names in a `trackers` setting, each once. Raises ConfigError, in a sentence that says what to install, for one that
    cannot be used here. Beside the three built-in ones there are the classes that somebody has registered with Accelerate."""
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
    """Tracker classes that somebody has registered with Accelerate, by name; its own others have settings the lab cannot know."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS
    from accelerate.utils import LoggerType

    own = set(LoggerType.list())
    return {name: kind for name, kind in LOGGER_TYPE_TO_CLASS.items() if name not in own}


def make_tracker(name: str, run: TrackedRun, first_step: int) -> Any:
    """A started `accelerate.tracking.GeneralTracker` whose first values will be those of `first_step`.

    A resumed run goes on in the same place: TensorBoard in its folder, where what is about to be written again is dropped, W&B
    under the same id, trackio under the same name. Raises whatever the tracker raises where it cannot start.
    """
    from accelerate.state import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # Accelerate's trackers speak through its logger, which refuses to before there is one
    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "wandb":
        # A second run of this process must not end up in the first one's, and only `init` tells the right one its settings.
        tracker = kind(
            PROJECT, name=run.name, id=run.key, resume="allow", reinit="create_new", dir=str(run.folder), config=run.settings
        )
    elif name == "trackio":
        tracker = kind(PROJECT, name=run.key, resume="allow", embed=False, config=run.settings)
    elif name == "tensorboard":
        tracker = kind("tensorboard", str(run.folder), purge_step=first_step if run.resumed else None)
    else:
        tracker = kind(PROJECT, str(run.folder)) if kind.requires_logging_directory else kind(PROJECT)
    # Only the process that writes the run's store has trackers, so none of them has to ask which process it is in.
    tracker.main_process_only = False
    tracker.start()
    if name not in ("wandb", "trackio") and not run.resumed:
        tracker.store_init_configuration(dict(run.settings))
    return tracker


class Recorder:
    """Feeds one tracker, from a thread of its own; a listener of StoreWriter, whose calls return at once.

    warn(step, words): called once, from that thread, if the tracker fails, which is given nothing any more then.
    """

    def __init__(self, name: str, run: TrackedRun, warn: Callable[[int, str], None]) -> None:
        self.name, self._run, self._warn = name, run, warn
        self._queue: queue.SimpleQueue[tuple[int, dict[str, float]] | None] = queue.SimpleQueue()
        self._left_out = 0
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Hand over a step's numbers; never waits."""
        if not self._thread.is_alive():
            return
        if self._queue.qsize() < WAITING:
            self._queue.put((step, dict(values)))
        else:
            self._left_out += 1

    def close(self, patience: float = PATIENCE) -> None:
        """Let the tracker write what is left and end; gives up after `patience` seconds."""
        if self._left_out:
            self._warn(0, f"The tracker {self.name} was too slow: {self._left_out:,} of its values were left out.")
        self._queue.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn(0, f"The tracker {self.name} had not taken everything {patience:g} seconds after the end of the run.")

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
        except Exception as error:  # a tracker may raise anything, and must not take the run down
            message = f"The tracker {self.name} failed ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
            log.warning("%s; the run goes on without it.", message)
            self._warn(step, f"{message}; the run goes on without it.")
