"""Export a run's result: a model or adapter that transformers and peft load without the lab, its model card, and a TRL script."""

from .source import Base, ExportError, Source, find_source
from .trl import Recipe, recipe
from .writing import KINDS, export_run

__all__ = ["KINDS", "Base", "ExportError", "Recipe", "Source", "export_run", "find_source", "recipe"]
