"""Starting points of single lessons: faulty runs for 07, planted defects for 08, chat models for 10."""

from .chat_models import SMOLLM2_SHAPE, ModelSize, as_conversations, chat_model, model_size, smollm2
from .clues import UNITS, clues
from .faults import FAULTS, NAMES, SETTINGS, Fault, faulty_run
from .planted import PlantedSet, planted_set, true_order
from .world_stores import world_store

__all__ = [
    "FAULTS",
    "NAMES",
    "SETTINGS",
    "SMOLLM2_SHAPE",
    "UNITS",
    "Fault",
    "ModelSize",
    "PlantedSet",
    "as_conversations",
    "chat_model",
    "clues",
    "faulty_run",
    "model_size",
    "planted_set",
    "smollm2",
    "true_order",
    "world_store",
]
