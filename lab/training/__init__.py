"""Training: configuration, the loop, checkpoints, and the handle on a run."""

from .config import ConfigError, TrainConfig, read_config
from .evaluation import Evaluation, Judge
from .lifecycle import create_run, start, trained_here
from .loop import Training

__all__ = [
    "ConfigError",
    "Evaluation",
    "Judge",
    "TrainConfig",
    "Training",
    "create_run",
    "read_config",
    "start",
    "trained_here",
]
