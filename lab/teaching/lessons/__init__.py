"""Starting points of single lessons: faulty runs for lesson 07, chat models for lesson 10."""

from .chat_models import SMOLLM2_SHAPE, ModelSize, as_conversations, chat_model, model_size, smollm2
from .clues import UNITS, clues
from .faults import FAULTS, NAMES, SETTINGS, Fault, faulty_run
from .world_stores import world_store

__all__ = [
    "FAULTS",
    "NAMES",
    "SETTINGS",
    "SMOLLM2_SHAPE",
    "UNITS",
    "Fault",
    "ModelSize",
    "as_conversations",
    "chat_model",
    "clues",
    "faulty_run",
    "model_size",
    "smollm2",
    "world_store",
]
