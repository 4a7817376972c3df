"""Labels of the numbers that a pair set is sorted and filtered by."""

from __future__ import annotations

from lab.glossary import PAIR_EVIDENCE, Entry, lesson_of
from lab.pairs.query import SORTS
from lab.plots import entry

LABELS = {
    "position": "Position",
    "recent": "Latest edit",
    "prompt_words": "Words of the prompt",
    "chosen_words": "Words of the chosen answer",
    "rejected_words": "Words of the rejected answer",
    "length_difference": "Chosen longer by (words)",
    "weight": "Weight",
    "degree": "Preference degree",
}

HEADS = {
    "prompt_words": "Prompt words",
    "chosen_words": "Chosen words",
    "rejected_words": "Rejected words",
    "length_difference": "Longer by",
}
"""Short headings of columns."""


def number_label(name: str) -> str:
    """Return a label: one of SORTS, or a term of a run, whose name is "run/term"."""
    if name in SORTS:
        return LABELS[name]
    run, _, term = name.partition("/")
    return f"{_entry(term).title} in {run}" if term else name


def number_heading(name: str) -> str:
    """Return a short heading for a column of numbers."""
    return HEADS.get(name) or (LABELS[name] if name in SORTS else _entry(name.partition("/")[2] or name).title)


def _entry(term: str) -> Entry:
    return PAIR_EVIDENCE.get(term) or entry(term)


def number_help(name: str) -> str:
    """Return what a number means, for the head of its column; a term of a run with its sentence in the glossary and its lesson."""
    term = name.partition("/")[2]
    if not term:
        return number_label(name)
    known, lesson = _entry(term), lesson_of(term)
    return f"{number_label(name)}. {known.symbol}: {known.meaning}" + (f" See {lesson.label}." if lesson else "")


def number_text(value: float | None) -> str:
    """Return a number with four significant digits; empty without one."""
    return "" if value is None else f"{value:.4g}"
