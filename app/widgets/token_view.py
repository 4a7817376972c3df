"""Both answers of a pair side by side: their word-by-word difference, or a heat map on their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.widgets.difference import answers_html
from app.widgets.figure import dark
from app.widgets.heat import answer_html, legend_html, plain_html
from lab.objectives import Objective
from lab.plots import KINDS, Paint, paint, paintable
from lab.plots.landscapes.computed import draws_tokens
from lab.policy.text.pieces import pieces

DIFFERENCE, DEGREES = "difference", "degrees"
TITLES = {DIFFERENCE: "Difference"} | {name: kind.title for name, kind in KINDS.items()} | {DEGREES: "Degraded answers"}
SIDES = ("chosen", "rejected")


def choices(objective: Objective | None, reference: bool) -> list[str]:
    """List the pictures that an objective's pairs have.

    Args:
        objective: None if it cannot be built any more.
        reference: Whether the run has the reference's log-probs.
    """
    offered = [DIFFERENCE, *(["log_ratio"] if reference else []), "credit"]
    if objective is None:
        return offered
    return offered + (["pilot"] if draws_tokens(objective) else []) + ([DEGREES] if objective.degraded_spec() else [])


def switch(key: str, offered: Sequence[str]) -> str:
    """Draw a control that selects one of the offered pictures, at first the first one; return the selected one."""
    if st.session_state.get(key, offered[0]) not in offered:  # selected for a run that has more pictures
        st.session_state[key] = offered[0]
    wanted = st.segmented_control(
        "Paint",
        list(offered),
        default=offered[0] if key not in st.session_state else None,
        required=True,
        format_func=lambda name: TITLES[name],
        key=key,
        label_visibility="collapsed",
    )
    return wanted or offered[0]


def progress_text(wanted: str) -> str:
    """Return the progress text shown while a view is computed."""
    if wanted == DEGREES:
        return "Computing the degree head's predictions for the degraded answers ..."
    return "Comparing the two answers ..." if wanted == DIFFERENCE else f"Computing the {TITLES[wanted].lower()} of every token ..."


def draw(
    wanted: str, texts: tuple[str, str], tokens: pd.DataFrame | None, tokenizer: Any, notes: tuple[str, str] = ("", "")
) -> None:
    """Draw both answers.

    Args:
        wanted: One of `choices`, except `DEGREES`.
        texts: The chosen and the rejected answer, for `DIFFERENCE` and where there are no tokens.
        tokens: Token values of the pair in the columns of `StoreReader.tokens`, or None.
        tokenizer: The tokenizer of the run.
        notes: A line below each answer.
    """
    if wanted == DIFFERENCE:
        _boxes(answers_html(*texts), notes)
        st.caption("Underlined: what only one of the two answers has.")
        return
    if tokens is None:  # uncoloured, rather than with the colours of another picture
        _boxes((plain_html(texts[0]), plain_html(texts[1])), notes)
        return
    if wanted not in paintable(tokens):
        _boxes((plain_html(texts[0]), plain_html(texts[1])), notes)
        why = "no pilot was drawn for this pair" if wanted == "pilot" else "the reference's log-probs were not recorded"
        st.caption(f"There is nothing to paint: {why}.")
        return
    painting = paint(tokens, wanted)
    ids: dict[str, Any] = {str(row.side): row.ids for row in tokens.itertuples()}
    one, other = (answer_html(pieces(tokenizer, ids[side]), painting, side, dark()) for side in SIDES)
    _boxes((one, other), notes)
    st.html(legend_html(painting, dark()))
    if wanted == "credit" and (alike := constant(painting)):
        st.caption(alike)


def constant(painting: Paint) -> str:
    """Explain why all tokens of a side have the same credit; "" if they have not."""
    if not painting.uniform:
        return ""
    return "All tokens have equal credit: this objective depends only on the sum (or mean) of their log-probs."


def _boxes(html: tuple[str, str], notes: tuple[str, str]) -> None:
    for column, side, content, note in zip(st.columns(2), SIDES, html, notes):
        with column, st.container(border=True):
            st.caption(f"{side.capitalize()} answer")
            st.html(content)
            if note:
                st.text(note)
