"""A lab for preference optimization: train a language model on preference pairs, observe and control the training.

import lab
pairs = lab.open_pairs("world")
run = lab.train(objective="sgdpo", pairs=pairs, model="world", steps=200)
run.wait()
run.figure("margins")
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from lab import process_settings

process_settings.sleep_while_waiting()  # before anything loads torch
warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm without ipywidgets prints its bars as text
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # about its own use of torch

if TYPE_CHECKING:
    from lab.api import preflight, suspects, token_logps, train
    from lab.comparison import compare
    from lab.evidence import evidence_of
    from lab.experiments import open_experiment
    from lab.export import export_run
    from lab.notebook import watch
    from lab.objectives import OBJECTIVES, Objective, Outcome, PairLogps, make_objective, parameter, register
    from lab.opening import open_pairs
    from lab.pairs import Pair, PairsError, PairStore
    from lab.policy import ModelError
    from lab.run.config import ConfigError, TrainConfig
    from lab.run.handle import Run, open_run, runs
    from lab.run.listing.trash import empty_trash, trashed_runs
    from lab.run.queueing import queue
    from lab.store import RunError
    from lab.sweeping import sweep
    from lab.twins import train_twin, train_twins
    from lab.whatif import examine

__all__ = [
    "OBJECTIVES",
    "ConfigError",
    "ModelError",
    "Objective",
    "Outcome",
    "Pair",
    "PairLogps",
    "PairStore",
    "PairsError",
    "Run",
    "RunError",
    "TrainConfig",
    "compare",
    "empty_trash",
    "evidence_of",
    "examine",
    "export_run",
    "make_objective",
    "open_experiment",
    "open_pairs",
    "open_run",
    "parameter",
    "preflight",
    "queue",
    "register",
    "runs",
    "suspects",
    "sweep",
    "token_logps",
    "train",
    "train_twin",
    "train_twins",
    "trashed_runs",
    "watch",
]

_SOURCES = {
    "lab.api": ("preflight", "suspects", "token_logps", "train"),
    "lab.comparison": ("compare",),
    "lab.evidence": ("evidence_of",),
    "lab.experiments": ("open_experiment",),
    "lab.export": ("export_run",),
    "lab.objectives": ("OBJECTIVES", "Objective", "Outcome", "PairLogps", "make_objective", "parameter", "register"),
    "lab.opening": ("open_pairs",),
    "lab.pairs": ("Pair", "PairStore", "PairsError"),
    "lab.policy": ("ModelError",),
    "lab.store": ("RunError",),
    "lab.sweeping": ("sweep",),
    "lab.run.queueing": ("queue",),
    "lab.run.handle": ("Run", "open_run", "runs"),
    "lab.run.listing.trash": ("empty_trash", "trashed_runs"),
    "lab.run.config": ("ConfigError", "TrainConfig"),
    "lab.twins": ("train_twin", "train_twins"),
    "lab.notebook": ("watch",),
    "lab.whatif": ("examine",),
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that reading a run does not import torch."""
    for source, names in _SOURCES.items():
        if name in names:
            module = importlib.import_module(source)
            if source in ("lab.objectives", "lab.run.config"):  # the registry includes custom objectives
                importlib.import_module("lab.extensions").load()
            return getattr(module, name)
    raise AttributeError(f"module 'lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
