"""Experiments: a declared grid of runs, trained in processes, resumable and extendable, with its results and their intervals.

`declaration` and `plan` are pure functions from a declaration to runs; `driver` starts them; `results` and `statistics` are pure
functions of the records of finished runs.
"""

from .declaration import Declaration, check_value, declare, extended, parse_declaration, read_declaration
from .driver import Driver, RunExecutor
from .experiment import Experiment, all_experiments, open_experiment
from .folder import (
    Content,
    ExperimentFolder,
    effects_of_deletion,
    experiment_folder,
    experiment_folders,
    experiments_of_runs,
    find_experiment,
)
from .plan import PairSet, PlannedRun, plan, sources_of, variants
from .progress import ExperimentState, RunState
from .rules import check_comparison, check_recorded
from .writing import as_python, as_yaml, parse_values, write_values

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
    "as_python",
    "as_yaml",
    "check_comparison",
    "check_recorded",
    "check_value",
    "declare",
    "effects_of_deletion",
    "experiment_folder",
    "experiment_folders",
    "experiments_of_runs",
    "extended",
    "find_experiment",
    "open_experiment",
    "parse_declaration",
    "parse_values",
    "plan",
    "read_declaration",
    "sources_of",
    "variants",
    "write_values",
]
