"""Experiments: a declared grid of runs, trained in processes, resumable and extendable, with its results and their intervals.

`declaration` and `plan` are pure functions from a declaration to runs; `driver` starts them; `results` and `statistics` are pure
functions of the records of finished runs.
"""

from .declaration import Declaration, declare, extended, read_declaration
from .driver import Driver, RunExecutor
from .experiment import Experiment, all_experiments, open_experiment
from .folder import Content, ExperimentFolder, experiment_folder, experiments_of_runs, find_experiment
from .plan import PairSet, PlannedRun, plan, sources_of
from .progress import ExperimentState, RunState

__all__ = [
    "Content",
    "Declaration",
    "Driver",
    "Experiment",
    "ExperimentFolder",
    "ExperimentState",
    "PairSet",
    "PlannedRun",
    "RunExecutor",
    "RunState",
    "all_experiments",
    "declare",
    "experiment_folder",
    "experiments_of_runs",
    "extended",
    "find_experiment",
    "open_experiment",
    "plan",
    "read_declaration",
    "sources_of",
]
