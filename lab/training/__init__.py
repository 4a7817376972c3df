"""Training: configuration, the loop, checkpoints, and the handle on a run."""

from .config import ConfigError, TrainConfig, read_config
from .evaluation import Evaluation, Judge
from .lifecycle import create_run, start, trained_here
from .loop import Training
from .process import start_process
from .turn import Turn, device_name

__all__ = [
    "ConfigError",
    "Evaluation",
    "Judge",
    "TrainConfig",
    "Training",
    "Turn",
    "create_run",
    "device_name",
    "read_config",
    "start",
    "start_process",
    "trained_here",
]
