"""Training of a run: the loop, its steps, checkpoints and evaluations, and the thread or process that trains it."""

from lab.training.control.device_slot import DeviceSlot, device_name
from lab.training.evaluation.evaluator import Evaluation, Judge
from lab.training.setup.child_process import start_process

from .lifecycle import create_run, start, trained_here
from .loop import Training

__all__ = [
    "DeviceSlot",
    "Evaluation",
    "Judge",
    "Training",
    "create_run",
    "device_name",
    "start",
    "start_process",
    "trained_here",
]
