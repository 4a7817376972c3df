"""The degraded answers of a pair (SPO): the phrases that each degree removes, and the degree that the run's head predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app.text.plain import editable, plain
from app.widgets.degraded_text import marked
from lab.objectives import DegradedSpec
from lab.pairs import Pair, removed_spans
from lab.whatif.degrees import SOURCES, DegreeGuess


def draw(pair: Pair, degraded: DegradedSpec, guesses: Sequence[DegreeGuess] | None) -> None:
    """Draw every degraded answer beside the head's prediction. guesses: None without a model."""
    sides = SOURCES.get(degraded.source, ())
    if not sides:
        st.caption("This run degrades answers that the policy samples in each step, so a pair of the set has none of its own.")
        return
    by_degree = {(guess.side, guess.degree): guess for guess in guesses or ()}
    for side in sides:
        answer = getattr(pair, side)
        if not isinstance(answer, str):
            st.caption(f"The {side} answer has several messages; SPO degrades answers of one text.")
            continue
        text = editable(answer)
        removed = removed_spans(text, degraded.degrees)
        if not removed:
            st.caption(f"The {side} answer has too few key phrases for {degraded.degrees} degrees, so it is not degraded.")
            continue
        for degree, spans in enumerate(removed):
            _one(side, degree, text, spans, by_degree)
    st.caption(
        plain(
            f"Struck out: the key phrases (RAKE) that degree k of 0 to {degraded.degrees - 1} removes; the head predicts k "
            "from the remaining text."
        )
    )


def _one(
    side: str, degree: int, text: str, spans: Sequence[tuple[int, int]], by_degree: Mapping[tuple[str, int], DegreeGuess]
) -> None:
    answer, prediction = st.columns([3, 2])
    with answer, st.container(border=True):
        count = len({text[start:end].lower() for start, end in spans})
        st.caption(f"{side.capitalize()}, degree {degree}: {f'{count} phrases removed' if count else 'intact'}")
        st.html(marked(text, spans))
    guess = by_degree.get((side, degree))
    if guess is not None:
        with prediction, st.container(border=True):
            best = int(guess.probabilities.argmax())
            st.caption(f"The head predicts degree {best}, {'which is right' if best == degree else f'but it is {degree}'}")
            st.text("   ".join(f"{k}: {share:.0%}" for k, share in enumerate(guess.probabilities)))
