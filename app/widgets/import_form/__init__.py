"""The form that imports pairs: a source, its columns, the first rows as they are trained on, and the report."""

from .form import show

__all__ = ["show"]
