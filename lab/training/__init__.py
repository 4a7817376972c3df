"""Training: configuration, the loop, checkpoints, and the handle on a run."""

from .checkpoint import list_checkpoints
from .config import ConfigError, TrainConfig, read_config
from .lifecycle import ENDED, RunError, create_run, read_about, start, trained_here
from .loop import Evaluation, Evaluator, Training

__all__ = [
    "ENDED",
    "ConfigError",
    "Evaluation",
    "Evaluator",
    "RunError",
    "TrainConfig",
    "Training",
    "create_run",
    "list_checkpoints",
    "read_about",
    "read_config",
    "start",
    "trained_here",
]
