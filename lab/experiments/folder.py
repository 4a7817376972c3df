"""Files in the folder of an experiment: its declaration, its runs, the records of finished ones, and its latest state.

- `experiment.json`: the declaration, the pair sets with their versions, the threads of a run.
- `runs.json`: the folder of each run, by the run's key.
- `records/KEY.json`: evaluations of a finished run; they stay if the run's folder is deleted.
- `state.json`: state of every run at the driver's last look, for pages that poll it.
- `run.lock`: held by the process that starts the runs (the driver).
- `driver.log`: output of that process.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from lab import home
from lab.errors import did_you_mean
from lab.run.config import ConfigError
from lab.store import RunError, durable

from .declaration import Declaration, checked_name, declare
from .plan import PairSet, PlannedRun, plan
from .progress import ExperimentState

FILE, RUNS, RECORDS, STATE, LOG = "experiment.json", "runs.json", "records", "state.json", "driver.log"
FILE_ENDINGS = (".yaml", ".yml", ".json")
"""Endings by which a command tells the file of an experiment from its name."""
FORMAT = 1
RECORDED = {"evaluations": list, "changes": list, "versions": dict}
"""Parts of a record without which it is none; see `records.record_of`."""
PLAIN = ("template_time", "created", "threads", "workers", "keep_checkpoints", "models")
"""Fields of `Content` that are JSON values."""


@dataclass(frozen=True)
class Content:
    """Content of `experiment.json`.

    Attributes:
        declaration: The declaration.
        pair_sets: The pair set of every value of the setting `pairs`.
        template_time: Date and time for chat templates, the same in every run.
        created: When the experiment was declared first, ISO 8601.
        threads: Threads of each run; None for as many as the process that starts it.
        workers: Runs that train at once.
        keep_checkpoints: Whether the checkpoints of finished runs are kept.
        models: Digest of every model when the experiment was declared last; see `model_digest`.
    """

    declaration: Declaration
    pair_sets: Mapping[str, PairSet]
    template_time: str
    created: str
    threads: int | None = None
    workers: int = 1
    keep_checkpoints: bool = True
    models: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def runs(self) -> list[PlannedRun]:
        """The runs of the declaration. Raises ConfigError as `plan`."""
        return plan(self.declaration, self.pair_sets, template_time=self.template_time, models=self.models)


class ExperimentFolder:
    """Read and write the files of an experiment.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.path.name

    @property
    def exists(self) -> bool:
        """Whether the folder holds an experiment."""
        return (self.path / FILE).exists()

    def read(self) -> Content:
        """Return the experiment's declaration and what belongs to it. Raises RunError if it is missing or damaged."""
        again = f"restore the file, or delete the experiment with `python -m lab sweep {self.name} --delete` and declare it again"
        stored = _read_json(self.path / FILE, again)
        if stored is None:
            raise RunError(f"{self.path} holds no experiment ({FILE} is missing); `python -m lab sweep` lists them.")
        if stored.get("format") != FORMAT:
            raise RunError(
                f"The experiment in {self.path} has format {stored.get('format', 'none')}, and this version of the lab reads only "
                f"{FORMAT}; open it with the version that made it."
            )
        try:
            return Content(
                declare(**stored["declaration"]),
                {source: PairSet(**pairs) for source, pairs in stored["pair_sets"].items()},
                **{name: stored[name] for name in PLAIN if name in stored},
            )
        except ConfigError as error:  # an objective of an extension that is not installed here, for example
            raise RunError(f"The experiment {self.name} cannot be used here ({self.path / FILE}): {error}") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self.path / FILE} is damaged ({type(error).__name__}: {error}); {again}.") from None

    def write(self, content: Content) -> None:
        """Store a declaration. Raises RunError if the folder cannot be written."""
        stored = {
            "format": FORMAT,
            "declaration": content.declaration.as_json(),
            "pair_sets": {source: asdict(pairs) for source, pairs in content.pair_sets.items()},
            **{name: getattr(content, name) for name in PLAIN},
        }
        with durable.disk_errors_as_run_errors():
            self.path.mkdir(parents=True, exist_ok=True)
            durable.write_json(self.path / FILE, stored)

    @property
    def changed(self) -> int:
        """When the declaration was last written, in nanoseconds. Raises RunError if it is gone."""
        try:
            return (self.path / FILE).stat().st_mtime_ns
        except FileNotFoundError:
            raise RunError(f"There is no experiment {self.name} (any more): it was deleted or renamed.") from None

    def run_folders(self) -> dict[str, Path]:
        """Return the folder of each run that was begun, by the run's key.

        Every run is in this home. A home that was copied or moved must not refer to the runs where it was before.
        """
        again = "delete the file: the runs are found again by their names when the experiment is continued"
        stored = _read_json(self.path / RUNS, again) or {}
        if wrong := [key for key, folder in stored.items() if not isinstance(folder, str)]:
            raise RunError(f"{self.path / RUNS} is damaged ({wrong[0]} has no folder); {again}.")
        return {key: home.runs_dir() / Path(folder).name for key, folder in stored.items()}

    def place_of(self, run: PlannedRun) -> Path:
        """Return the folder in which a run is made that was not begun."""
        return home.runs_dir() / f"{self.name}-{run.config.objective.name}-{run.key}"

    def add_run(self, run: PlannedRun) -> Path:
        """Return the folder of a run, and store that it belongs to the run. The folder itself is not made."""
        known = self.run_folders()
        if run.key not in known:
            known[run.key] = self.place_of(run)
            durable.write_json(self.path / RUNS, {key: str(folder) for key, folder in known.items()})
        return known[run.key]

    def record(self, key: str) -> dict[str, Any] | None:
        """Return the record of a finished run, or None; see `records`. Raises RunError if it is damaged."""
        path, again = self.path / RECORDS / f"{key}.json", "delete the file: its run is read, or else trained, again when continued"
        record = _read_json(path, again)
        if record is not None and not all(isinstance(record.get(name), kind) for name, kind in RECORDED.items()):
            raise RunError(f"{path} is damaged (it lacks {' or '.join(RECORDED)}); {again}.")
        return record

    def recorded(self) -> set[str]:
        """Return the keys of the runs with a record."""
        return {path.stem for path in (self.path / RECORDS).glob("[!.]*.json")}

    def write_record(self, key: str, record: Mapping[str, Any]) -> None:
        """Store the record of a finished run."""
        (self.path / RECORDS).mkdir(exist_ok=True)
        durable.write_json(self.path / RECORDS / f"{key}.json", record)

    def forget(self, key: str) -> None:
        """Delete the record of a run."""
        (self.path / RECORDS / f"{key}.json").unlink(missing_ok=True)

    def state(self) -> ExperimentState | None:
        """Return the state at the last look of the process that starts the runs; None before the first.

        A file that a power cut has damaged counts as none: the next such process writes it again.
        """
        try:
            stored = _read_json(self.path / STATE, "")
            return None if stored is None else ExperimentState.from_json(stored)
        except (RunError, TypeError, AttributeError):
            return None

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Store the state. A reader sees the old one or the new one; it need not survive a power cut."""
        draft = self.path / f".{STATE}"
        draft.write_text(json.dumps(state), encoding="utf-8")
        draft.replace(self.path / STATE)


def experiment_folder(name: str | Path) -> ExperimentFolder:
    """Return the folder of an experiment that may not exist yet. Raises ConfigError for an impossible name."""
    known = checked_name(name)
    if known.endswith(FILE_ENDINGS):
        raise ConfigError(f"{known!r} is no name for an experiment, since commands take it for a file; leave its ending out.")
    return ExperimentFolder(home.experiments_dir() / known)


def find_experiment(name: str) -> ExperimentFolder:
    """Return the folder of an existing experiment, by its name. Raises RunError with the nearest name if there is none."""
    try:
        folder = ExperimentFolder(home.experiments_dir() / checked_name(name))
    except ConfigError as error:
        raise RunError(str(error)) from None
    if not folder.exists:
        names = [other.name for other in experiment_folders()]
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        known = f"; there {'is' if len(names) == 1 else 'are'} {listed}" if names else ""
        raise RunError(f"There is no experiment {name!r}{known}.{did_you_mean(name, names)}")
    return folder


def experiment_folders() -> list[ExperimentFolder]:
    """Return the folders of all experiments, the latest changed first."""
    root = home.experiments_dir()
    changed: dict[Path, int] = {}
    for path in root.iterdir() if root.exists() else ():
        with contextlib.suppress(RunError, OSError):  # no experiment, deleted at this moment, or another person's
            changed[path] = ExperimentFolder(path).changed
    return [ExperimentFolder(path) for path in sorted(changed, key=lambda path: changed[path], reverse=True)]


def experiments_of_runs() -> dict[str, str]:
    """Return the name of the experiment that each run belongs to, by the name of the run's folder; other runs are missing."""
    names: dict[str, str] = {}
    for folder in experiment_folders():
        with contextlib.suppress(RunError, OSError):  # damaged, or deleted at this moment
            names |= {run.name: folder.name for run in folder.run_folders().values()}
    return names


def effects_of_deletion(runs: Iterable[Path]) -> list[str]:
    """Return one sentence per experiment about what becomes of it if some runs are deleted.

    Args:
        runs: Folders of the runs.
    """
    names = experiments_of_runs()
    counts = Counter(names[run.name] for run in runs if run.name in names)
    after = "Results of finished runs stay with the experiment; unfinished ones are trained again when it continues."
    return [
        f"{count:,} {'run belongs' if count == 1 else 'runs belong'} to the experiment {name}. {after}"
        for name, count in counts.items()
    ]


def now() -> str:
    """Return the present time, ISO 8601, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _read_json(path: Path, again: str) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None if there is no file. Raises RunError if it is damaged; again: what to do then."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); {again}.") from None
    return content
