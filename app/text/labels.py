"""Labels for lists with text search: the name that was typed in full is the one that Enter takes."""

from __future__ import annotations

from lab.objectives import OBJECTIVES


def objective_label(name: str) -> str:
    """Return an objective's name and title, ended by invisible blanks.

    Streamlit ranks the labels that hold the typed letters by how early they come and by how short the label is, so that "dpo" gave
    dpop, whose title is shorter. With the blanks the shorter name has the shorter label.
    """
    widest = max(len(f"{other}: {kind.title}") for other, kind in OBJECTIVES.items())
    return f"{name}: {OBJECTIVES[name].title}".ljust(widest + 2 * len(name))
