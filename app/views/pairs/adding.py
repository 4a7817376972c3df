"""Add pairs: written by hand, or from two answers of a run's model."""

from __future__ import annotations

import streamlit as st

import lab
from app.state.access import WHY, may_edit
from app.state.address import put
from app.state.author import author
from app.state.current_run import label
from app.text.plain import plain
from app.views.pairs.acting import act
from app.widgets import examining
from app.widgets.difference import answers_html
from app.widgets.pair_view import displayable
from lab.errors import LabError
from lab.pairs import Pair, PairStore, pair_of

DRAFT = "pairs.answers"
"""In the session: (prompt, two answers of the model) that wait for a choice."""


def show_adding(store: PairStore) -> None:
    """Draw the ways to get more pairs."""
    if not may_edit():
        st.info(WHY)
        return
    one, two = st.columns(2, gap="large")
    with one:
        st.subheader("Write a pair")
        _write(store)
    with two:
        st.subheader("Let the model answer twice, and choose")
        _answers(store)


def _write(store: PairStore) -> None:
    with st.form("add", clear_on_submit=False):
        prompt = st.text_area("Prompt", key="add.prompt", height=80)
        chosen = st.text_area("Chosen answer", key="add.chosen", height=110)
        rejected = st.text_area("Rejected answer", key="add.rejected", height=110)
        if st.form_submit_button("Add the pair", type="primary"):
            _add(store, prompt, chosen, rejected)


def _add(store: PairStore, prompt: str, chosen: str, rejected: str) -> Pair | None:
    added = act(
        lambda: store.add(pair_of({"prompt": prompt, "chosen": chosen, "rejected": rejected}), author=author()),
        "Pair added at the end of the set.",
    )
    if added is not None:
        put(pair=added.id, view=None)
        st.rerun()
    return added


def _answers(store: PairStore) -> None:
    runs = {run.dir.name: run for run in lab.runs()}
    if not runs:
        st.info("There is no run yet, so no model can answer. Start one on New run.")
        return
    run = runs[st.selectbox("Run", list(runs), key="answers.run", format_func=lambda name: label(runs[name]))]
    step = examining.choose(run, None, "answers")
    if step is None:
        return
    prompt = st.text_area("Prompt", key="answers.prompt", height=90)
    temperature = st.slider("Temperature", 0.2, 1.5, 1.0, 0.1, key="answers.temperature")
    if st.button("Answer twice", icon=":material/casino:", type="primary", disabled=not prompt.strip()):
        st.session_state["answers.wanted"] = (run.dir.name, step, prompt, temperature, st.session_state.get("answers.turn", 0) + 1)
        st.session_state["answers.turn"] = st.session_state.get("answers.turn", 0) + 1
    wanted = st.session_state.get("answers.wanted")
    if not wanted or wanted[:3] != (run.dir.name, step, prompt):
        return
    model = examining.opened(run, step)
    if model is None:
        return
    if st.session_state.get(DRAFT, (None,))[0] != wanted:
        try:
            answers = model.answers(prompt, count=2, temperature=temperature, seed=wanted[4])
        except LabError as error:
            st.error(plain(error))
            return
        st.session_state[DRAFT] = (wanted, answers)
    first, second = st.session_state[DRAFT][1]
    if first == second:
        st.info("Both answers are the same; answer again, or raise the temperature.")
        return
    for column, html, chosen, rejected, key in zip(
        st.columns(2), answers_html(displayable(first), displayable(second)), (first, second), (second, first), ("1", "2")
    ):
        with column:
            st.html(html)
            if st.button(f"Answer {key} is better", shortcut=key, key=f"answers.choose.{key}"):
                del st.session_state["answers.wanted"]
                _add(store, prompt, chosen, rejected)
