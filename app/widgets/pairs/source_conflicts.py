"""Pairs that were edited here and changed in another source too: both versions, of which the one here stays until it is edited."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.text.plain import displayable, plain
from app.widgets.difference import answers_html
from lab.pairs import SourceConflict, answer_text, prompt_text

MOST = 20
"""Pairs that are drawn."""


def show_conflicts(conflicts: Sequence[SourceConflict]) -> None:
    """Draw what differs between the pair here, which stays, and that of the other source."""
    for conflict in conflicts[:MOST]:
        mine, theirs = conflict.mine, conflict.theirs
        with st.expander(plain(f"Pair {mine.id} differs in both; what is here stays")):
            texts = {
                "Prompt": (prompt_text(mine.prompt), prompt_text(theirs.prompt)),
                "Chosen": (answer_text(mine.chosen), answer_text(theirs.chosen)),
                "Rejected": (answer_text(mine.rejected), answer_text(theirs.rejected)),
            }
            for name, (here, there) in texts.items():
                if here != there:
                    for column, text, html in zip(st.columns(2), ("here", "there"), answers_html(here, there)):
                        column.caption(f"{name} {text}")
                        column.html(html)
            for name in ("dropped", "weight", "degree", "tags", "note", "tools"):
                if (here := getattr(mine, name)) != (there := getattr(theirs, name)):
                    st.text(displayable(f"{name}: {here!r} here, {there!r} there"))
    if len(conflicts) > MOST:
        st.caption(f"The first {MOST} of {len(conflicts):,}.")
