"""Glossary: the name, symbol, unit and meaning of everything that a run records and the dashboard shows.

The only source of these words: figures, hover texts, tables and the user guide take them from here.
"""

from .entries import (
    CONCEPTS,
    FIELD_QUANTITIES,
    GLOSSARY,
    HELD_OUT,
    PAIR_EVIDENCE,
    PAIR_TERMS,
    PUSHES,
    SCALAR_OF_TERM,
    TOKEN_VALUES,
    Entry,
    entry,
)
from .lessons import LESSONS, Lesson, lesson_of
from .page import glossary_markdown

__all__ = [
    "CONCEPTS",
    "FIELD_QUANTITIES",
    "GLOSSARY",
    "HELD_OUT",
    "LESSONS",
    "PAIR_EVIDENCE",
    "PAIR_TERMS",
    "PUSHES",
    "SCALAR_OF_TERM",
    "TOKEN_VALUES",
    "Entry",
    "Lesson",
    "entry",
    "glossary_markdown",
    "lesson_of",
]
