"""Add pairs: written by hand, from two answers of a run's model, from another set; and split the list off as a set of its own."""

from __future__ import annotations

import streamlit as st

from app.state import pair_sets
from app.state.access import WHY, may_edit
from app.state.address import put
from app.state.author import author
from app.state.current_run import label, offered_runs
from app.text.plain import plain
from app.views.pairs.filters import open_set
from app.widgets import examining
from app.widgets.difference import answers_html
from app.widgets.pairs.acting import act_or_redraw
from app.widgets.pairs.source_conflicts import show_conflicts
from lab.errors import LabError
from lab.pairs import PairStore, pair_of
from lab.pairs.query import PairQuery
from lab.run.handle import Run

REQUEST, TURN = "pairs.answers.request", "pairs.answers.turn"
"""In the session: (run, step, prompt, temperature, number of the request) of the answers that are wanted, and that number."""
DRAFT = "pairs.answers"
"""In the session: (prompt, two answers of the model) that wait for a choice."""


def show_adding(store: PairStore, query: PairQuery, total: int) -> None:
    """Draw the ways to get more pairs."""
    if not may_edit():
        st.info(WHY)
        return
    one, two = st.columns(2, gap="large")
    with one:
        st.subheader("Write a pair")
        _write(store)
        st.subheader("Other sets")
        _merge(store)
        _split(store, query, total)
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


def _add(store: PairStore, prompt: str, chosen: str, rejected: str) -> None:
    added = act_or_redraw(
        lambda: store.add(pair_of({"prompt": prompt, "chosen": chosen, "rejected": rejected}), author=author()),
        "Pair added at the end of the set.",
    )
    put(pair=added.id, view=None)
    st.rerun()


def _merge(store: PairStore) -> None:
    others = {name: location for name, location in pair_sets.stored_sets().items() if location != store.location}
    pair_sets.resend_label("merge.set")
    name = st.selectbox(
        "Add all pairs of", list(others), index=None, key="merge.set", format_func=pair_sets.label, placeholder="another set"
    )
    if name is None:
        return
    if st.button("Add them"):
        report = act_or_redraw(lambda: store.merge(pair_sets.open_set(others[name]), author=author()))
        st.success(
            f"{len(report.added):,} pairs added, {len(report.updated):,} updated, {report.unchanged:,} unchanged, "
            f"{len(report.conflicts):,} differ in both sets: those of this set stay."
        )
        show_conflicts(report.conflicts)


def _split(store: PairStore, query: PairQuery, total: int) -> None:
    name = st.text_input(
        f"Save the {total:,} pairs of the list as a set of its own", key="split.name", placeholder="name of the new set"
    )
    moved = st.toggle("Drop them here", key="split.drop", help="Every pair is then in one of the two sets. One Undo takes it back.")
    if st.button("Save as a set", disabled=not name or not total):
        new = act_or_redraw(lambda: store.split(query, pair_sets.new_file(name), name=name, drop=moved, author=author()))
        open_set(pair_sets.key(new.location), view=None)
        st.rerun()


def _answers(store: PairStore) -> None:
    runs = {run.folder.name: run for run in offered_runs()}
    if not runs:
        st.info("There is no run yet, so no model can answer. Start one on New run.")
        return
    name = st.selectbox("Run", list(runs), key="answers.run", format_func=lambda name: label(runs[name]))
    run = Run(runs[name].folder)
    step = examining.choose(run, None, "answers")
    if step is None:
        return
    prompt = st.text_area("Prompt", key="answers.prompt", height=90)
    temperature = st.slider("Temperature", 0.2, 1.5, 1.0, 0.1, key="answers.temperature")
    if st.button("Answer twice", icon=":material/casino:", type="primary", disabled=not prompt.strip()):
        st.session_state[REQUEST] = (run.dir.name, step, prompt, temperature, st.session_state.get(TURN, 0) + 1)
        st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
    wanted = st.session_state.get(REQUEST)
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
        st.columns(2), answers_html(first, second), (first, second), (second, first), ("1", "2")
    ):
        with column:
            st.html(html)
            if st.button(f"Answer {key} is better", shortcut=key, key=f"answers.choose.{key}"):
                del st.session_state[REQUEST]
                _add(store, prompt, chosen, rejected)
