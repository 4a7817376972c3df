"""Training: configuration, the loop, checkpoints, and the handle on a run."""

from .checkpoint import list_checkpoints
from .config import ConfigError, TrainConfig, read_config
from .loop import Evaluation, Evaluator, Training
from .run import ENDED, Run, RunError, create_run, start

__all__ = [
    "ENDED",
    "ConfigError",
    "Evaluation",
    "Evaluator",
    "Run",
    "RunError",
    "TrainConfig",
    "Training",
    "create_run",
    "list_checkpoints",
    "read_config",
    "start",
]
