"""A run's result for others: a model or adapter that transformers and peft load without the lab, its card, and a TRL script.

This room stands above training: it reads what runs have left and is imported by nobody but the handle on a run.
"""

from .source import Base, ExportError, Source, find_source
from .trl import Recipe, recipe
from .writing import KINDS, export_run

__all__ = ["KINDS", "Base", "ExportError", "Recipe", "Source", "export_run", "find_source", "recipe"]
