"""Formula of an objective, typeset."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lab.objectives import Objective, formula_of


def draw_formula(objective: Objective) -> None:
    """Draw the formula of an objective with its parameters: typeset, or as text where it is not in the language of formulas."""
    formula = formula_of(objective)
    if formula is not None:
        st.latex(formula.latex)
    elif objective.formula:
        st.code(objective.formula, language=None, wrap_lines=True)


def aligned(lines: Sequence[str]) -> str:
    """Return LaTeX equations below each other, aligned at their first equals sign."""
    rows = [" &= ".join(line.split(" = ", 1)) for line in lines]
    return r"\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}"
