"""The glossary as a chapter of the user guide."""

from __future__ import annotations

from .entries import CONCEPTS, FIELD_QUANTITIES, GLOSSARY, PAIR_EVIDENCE, TOKEN_VALUES, Entry
from .lessons import lesson_of


def glossary_markdown() -> str:
    """Return the glossary as Markdown, for the user guide: one table per group, a row per term."""
    groups = {
        "Concepts": CONCEPTS,
        "Recorded numbers": GLOSSARY,
        "Values of a token": TOKEN_VALUES,
        "Landscape of an objective": FIELD_QUANTITIES,
        "Evidence about a pair": PAIR_EVIDENCE,
    }
    return "\n\n".join(f"### {title}\n\n{_table(entries)}" for title, entries in groups.items())


def _table(entries: dict[str, Entry]) -> str:
    """Render entries as a Markdown table; names with the same entry share a row."""
    names: dict[Entry, list[str]] = {}
    for name, known in entries.items():
        names.setdefault(known, []).append(name)
    rows = [
        (known.title, known.symbol, known.unit, ", ".join(f"`{name}`" for name in own), known.meaning, _lesson(own))
        for known, own in names.items()
    ]
    head = ["| Term | Symbol | Unit | Field | Meaning | Lesson |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(_literal(cell) for cell in row)} |" for row in rows)])


def _lesson(names: list[str]) -> str:
    lessons = {lesson.number for name in names if (lesson := lesson_of(name))}
    return ", ".join(f"{number:02d}" for number in sorted(lessons))


def _literal(text: str) -> str:
    """Escape characters that Markdown would read as markup; code spans keep theirs."""
    return text if text.startswith("`") else "".join(f"\\{c}" if c in "|*_[]<>$~" else c for c in text)
