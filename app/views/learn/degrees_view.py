"""The view of SPO's degrees: an answer to type, its key phrases, its degraded versions, and the guesses of a run's degree head."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from app.state import current_run
from app.state.learn.learn_address import MOST_DEGREES, LearnState
from app.text.plain import plain
from app.widgets import examining
from app.widgets.degraded_text import marked
from lab.errors import LabError
from lab.pairs.degrade import DECISION
from lab.run.handle import Run
from lab.teaching import degraded_answers, head_probabilities


def draw(state: LearnState, opening: LearnState, prefix: str) -> LearnState:
    """Draw the view; return the state with the text and the number of degrees entered in it."""
    left, right = st.columns([3, 1])
    text = left.text_area(
        "Answer to degrade",
        opening.text,
        key=f"{prefix}.text",
        height=110,
        persist_state="page",
        help="Any answer in English.",
    )
    degrees = right.slider(
        "Degrees N",
        2,
        MOST_DEGREES,
        opening.degrees,
        key=f"{prefix}.degrees",
        persist_state="page",
        help="Number of versions, the intact answer (degree 0) included. OURS: the paper's number is not public.",
    )
    try:
        table = degraded_answers(text, degrees)
    except ValueError as error:
        st.error(plain(str(error)))
        return replace(state, text=text, degrees=degrees)
    _phrases(table)
    for degree, row in table.iterrows():
        with st.container(border=True):
            count = int(row["removed"])
            removed = f"{count} of {_distinct(row['phrases'])} key phrases removed" if count else "intact"
            st.caption(plain(f"Degree {degree}: share {row['share']:.0%}, {removed}"))
            st.html(marked(text, sorted((p.start, p.end) for p in row["phrases"] if p.removed)))
    st.caption(plain(DECISION))
    _head(text, prefix)
    return replace(state, text=text, degrees=degrees)


def _phrases(table: pd.DataFrame) -> None:
    """Draw the key phrases with their scores and the first degree that removes each."""
    first: dict[str, tuple[float, int | None]] = {}
    for degree, row in table.iterrows():
        for phrase in row["phrases"]:
            name = phrase.text.lower()
            score, gone = first.get(name, (phrase.score, None))
            first[name] = (score, gone if gone is not None or not phrase.removed else int(str(degree)))
    scored = pd.DataFrame(
        [(name, score, "never" if gone is None else str(gone)) for name, (score, gone) in first.items()],
        columns=["Key phrase", "RAKE score", "Removed from degree"],
    ).sort_values("RAKE score", ascending=False, kind="stable")
    with st.expander(f"{len(scored)} key phrases and their RAKE scores", expanded=False):
        st.dataframe(scored, hide_index=True)


def _distinct(phrases: tuple[object, ...]) -> int:
    return len({p.text.lower() for p in phrases})  # type: ignore[attr-defined]


def _head(text: str, prefix: str) -> None:
    """Draw the guesses of a run's degree head for every degraded version of the text."""
    runs = {run.folder.name: run for run in current_run.offered_runs() if run.objective["name"] == "spo"}
    st.subheader("Guesses of a degree head")
    if not runs:
        st.info("A run with the objective spo trains a degree head. Start one on New run, then its guesses appear here.")
        return
    name = st.selectbox(
        "Run",
        ["", *runs],
        format_func=lambda key: current_run.label(runs[key]) if key else "none",
        key=f"{prefix}.head.run",
        persist_state="page",
    )
    if not name:
        return
    run = Run(runs[name].folder)
    step = examining.choose(run, None, f"{prefix}.head")
    model = examining.opened(run, step) if step is not None else None
    if model is None:
        return
    try:
        guesses = head_probabilities(model, text)
    except (LabError, ValueError) as error:
        st.error(plain(str(error)))
        return
    right = int((guesses["predicted"] == guesses.index).sum())
    st.text(f"The head's most probable degree is right for {right} of {len(guesses)} versions.")
    st.dataframe(
        guesses.reset_index(),
        hide_index=True,
        column_config={
            "degree": "True degree",
            "predicted": "Most probable",
            **{
                column: st.column_config.ProgressColumn(f"P(degree {column[1:]})", min_value=0, max_value=1, format="%.2f")
                for column in guesses.columns
                if column != "predicted"
            },
        },
    )
