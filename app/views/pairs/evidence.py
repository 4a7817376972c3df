"""Evidence: take terms of a run to the list, run the checks, and open pairs of which the model disagrees with the label."""

from __future__ import annotations

import streamlit as st

import lab
from app.state import evidence
from app.state.access import WHY, may_edit
from app.state.address import put
from app.state.current_run import label
from app.state.jobs import show_progress
from app.text.plain import plain
from app.views.pairs.acting import act
from app.views.pairs.filters import filter_finding, set_range, sort_by
from lab.pairs import PairStore
from lab.plots import entry
from lab.run.handle import Run
from lab.store.terms import MARGIN


def show_evidence(store: PairStore) -> None:
    """Draw the evidence that the set has, and what more can be taken."""
    if not may_edit():
        st.info(WHY)
        return
    one, two = st.columns(2, gap="large")
    with one:
        st.subheader("Terms of a run")
        _terms(store)
    with two:
        st.subheader("Checks")
        _checks(store)


def _terms(store: PairStore) -> None:
    runs = {run.dir.name: run for run in lab.runs() if str(run.manifest["pairs_store"]) == str(store.path)}
    if not runs:
        st.info(
            "No run has trained on this set yet. Start one on New run; its margins, losses and weights can then sort this list."
        )
        return
    run = runs[st.selectbox("Run", list(runs), key="evidence.run", format_func=lambda name: label(runs[name]))]
    known = evidence.terms_of(run)
    terms = st.multiselect(
        "Terms", known, known[:4], key=f"evidence.terms.{run.dir.name}", format_func=lambda name: entry(name).title
    )
    left, right = st.columns(2)
    left.button(
        "Take to the list",
        icon=":material/table_view:",
        type="primary",
        disabled=not terms,
        on_click=act,
        args=(lambda: evidence.load_terms(store, run, terms), "The list can now be sorted and filtered by these terms."),
        help="The values of each pair when it was last in a batch. Press again to renew them while the run trains.",
    )
    right.button(
        "Model disagrees",
        icon=":material/thumbs_up_down:",
        disabled=MARGIN not in known,
        on_click=_disagrees,
        args=(store, run),
        help="List the pairs whose rejected answer has the higher reward, the clearest first.",
    )
    kept = [name for name in store.number_names() if name.startswith(f"{run.dir.name}/")]
    if kept:
        st.caption(plain(f"In the list: {', '.join(entry(name.partition('/')[2]).title for name in kept)}."))
        st.button("Remove them from the list", on_click=act, args=(lambda: _forget(store, kept),))


def _forget(store: PairStore, names: list[str]) -> None:
    for name in names:
        store.forget_numbers(name)


def _disagrees(store: PairStore, run: Run) -> None:
    if act(lambda: evidence.load_terms(store, run, [MARGIN])) is None:
        return
    name = evidence.number_name(run, MARGIN)
    set_range(name, None, 0.0)
    sort_by(name, descending=False)
    put(view=None)


def _checks(store: PairStore) -> None:
    counts = store.finding_counts()
    key = str(store.path)
    job = evidence.CHECKS.get(key)
    if job is not None and not job.done.wait(0.2):
        show_progress(job)
    elif job is not None:
        evidence.CHECKS.forget(key, job)
        st.error(plain(job.error)) if job.error else st.success(f"{job.result:,} findings.")
    st.button(
        "Run the checks" if not counts else "Run the checks again",
        icon=":material/rule:",
        type="secondary" if counts else "primary",
        disabled=job is not None and not job.done.is_set(),
        on_click=_check,
        args=(store,),
        help="Duplicates, contradictions, leaks, truncated answers and more; findings are kept with the pairs.",
    )
    for name, count in counts.items():
        st.button(
            plain(f"{name.replace('_', ' ')}: {count:,}"),
            key=f"check.{name}",
            on_click=_list_finding,
            args=(name,),
            help="List these pairs.",
        )


def _check(store: PairStore) -> None:
    evidence.check_job(store)


def _list_finding(name: str) -> None:
    filter_finding(name)
    put(view=None)
