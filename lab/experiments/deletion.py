"""Delete or rename an experiment: its declaration and results, and its runs if wanted."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import home
from lab.run import RunLock, is_held
from lab.run.listing.index import list_runs
from lab.run.listing.trash import Freed, delete_run, freed_by
from lab.store import RunError
from lab.store.durable import disk_errors_as_run_errors

from .folder import FILE, ExperimentFolder, experiment_folder, experiment_folders


@dataclass(frozen=True)
class DeletionEffect:
    """Effect of deleting an experiment.

    Attributes:
        results: Finished runs whose evaluations are deleted for good.
        runs: Folders of its runs, which stay unless they are deleted, too.
        freed: Effect of deleting these runs.
    """

    results: int
    runs: tuple[Path, ...]
    freed: Freed


def deletion_effect(folder: ExperimentFolder) -> DeletionEffect:
    """Return the effect of deleting an experiment."""
    runs = _runs(folder)
    return DeletionEffect(len(folder.recorded()), runs, freed_by(runs, list_runs().runs))


@disk_errors_as_run_errors()
def delete_experiment(folder: ExperimentFolder, *, runs: bool = False, author: str | None = None) -> None:
    """Delete an experiment's declaration and results for good.

    Args:
        folder: Folder of the experiment.
        runs: Move its runs to the trash, too, except those that another experiment has; else they stay in the list of runs.
        author: Who deletes them; None for the author of this process.

    Raises:
        RunError: If the experiment, or one of the runs to be deleted, is in training, or there is no such experiment any more;
            nothing is deleted then.
    """
    with _unused(folder, "deleted"):
        if runs:
            own = _runs(folder)
            if training := [run.name for run in own if is_held(run)]:
                raise RunError(f"{training[0]} is in training, so {folder.name} cannot be deleted with its runs; stop it before.")
            for run in own:
                delete_run(run, author=author)
        (folder.path / FILE).unlink(missing_ok=True)  # first, so that what an interruption leaves is no experiment
        shutil.rmtree(folder.path)


@disk_errors_as_run_errors()
def rename_experiment(folder: ExperimentFolder, name: str) -> ExperimentFolder:
    """Give an experiment another name, and return its folder. Its runs keep their folders and names.

    Raises:
        ConfigError: If the name is not possible.
        RunError: If the name is taken, or the experiment is in training.
    """
    renamed = experiment_folder(name)
    if renamed.path.exists():
        kind = "an experiment" if renamed.exists else f"a folder without an experiment in {home.experiments_dir()}, called"
        raise RunError(f"There is {kind} {renamed.name} already; choose another name.")
    with _unused(folder, "renamed"):
        folder.path.rename(renamed.path)
    return renamed


def _runs(folder: ExperimentFolder) -> tuple[Path, ...]:
    """Return the folders of an experiment's runs.

    After an experiment was renamed, another one with its former name and equal settings has the same runs; these are left out.
    """
    others: set[Path] = set()
    for other in experiment_folders():
        if other.path != folder.path:
            with contextlib.suppress(RunError, OSError):  # damaged, or deleted at this moment
                others.update(other.run_folders().values())
    return tuple(path for path in folder.run_folders().values() if path not in others and path.exists())


@contextlib.contextmanager
def _unused(folder: ExperimentFolder, done: str) -> Iterator[None]:
    """Hold the lock of an experiment whose runs no process starts. Raises RunError if one does, or if it is gone."""
    try:
        lock = RunLock(folder.path, patience=0.5)
    except RuntimeError:
        raise RunError(f"The experiment {folder.name} is in training; stop it before it is {done}.") from None
    except FileNotFoundError:
        raise RunError(f"There is no experiment {folder.name} (any more): it was deleted or renamed.") from None
    try:
        if not folder.exists:  # another process has deleted it while this one waited
            raise RunError(f"There is no experiment {folder.name} (any more): it was deleted or renamed.")
        yield
    finally:
        lock.release()
