"""Both answers of a pair side by side: their difference, or a heat map on their tokens."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.difference import answers_html
from app.figure import dark
from app.heat import answer_html, legend_html
from app.pair_view import shown
from lab.plots import KINDS, paint, paintable
from lab.policy.pieces import pieces

DIFFERENCE = "difference"
TITLES = {DIFFERENCE: "Difference"} | {name: kind.title for name, kind in KINDS.items()}
SIDES = ("chosen", "rejected")


def switch(key: str) -> str:
    """Which picture people want: "difference", or one of `lab.plots.KINDS`."""
    found = st.segmented_control(
        "Paint",
        list(TITLES),
        default=DIFFERENCE,
        required=True,
        format_func=lambda name: TITLES[name],
        key=key,
        label_visibility="collapsed",
    )
    return found or DIFFERENCE


def draw(
    wanted: str, texts: tuple[str, str], tokens: pd.DataFrame | None, tokenizer: Any, notes: tuple[str, str] = ("", "")
) -> None:
    """Both answers. tokens: token values of the pair in the columns of `StoreReader.tokens`, or None; texts: chosen and rejected.
    notes: said below each answer."""
    if wanted == DIFFERENCE or tokens is None:
        _boxes(answers_html(*(shown(text) for text in texts)), notes)
        if wanted == DIFFERENCE:
            st.caption("Underlined: what only one of the two answers has.")
        return
    there = paintable(tokens)
    if wanted not in there:
        _boxes(answers_html(*(shown(text) for text in texts)), notes)
        why = "this objective draws no pilot" if wanted == "pilot" else "this run computed no reference"
        st.caption(f"There is nothing to paint: {why}.")
        return
    painting = paint(tokens, wanted)
    ids = {row.side: row.ids for row in tokens.itertuples()}
    one, other = (answer_html(pieces(tokenizer, ids[side]), painting, side, dark()) for side in SIDES)
    _boxes((one, other), notes)
    st.html(legend_html(painting, dark()))


def _boxes(html: tuple[str, str], notes: tuple[str, str]) -> None:
    for column, side, content, note in zip(st.columns(2), SIDES, html, notes):
        with column, st.container(border=True):
            st.caption(f"{side.capitalize()} answer")
            st.html(content)
            if note:
                st.text(note)
